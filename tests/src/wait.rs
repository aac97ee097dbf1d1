//! Waiting for conditions: no test sleeps and hopes.
use std::{
    thread,
    time::{Duration, Instant},
};

/// Longest wait for something that should happen at once. Generous, since machines that test are busy ones.
pub const LONG: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(5);

/// Waits until `holds`, at most for `within`.
///
/// # Panics
/// When the time is up, naming `what`.
#[track_caller]
pub fn wait_for(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < within, "not within {within:?}: {what}");
        thread::sleep(STEP);
    }
}

/// [`wait_for`] for tasks: the condition may await.
///
/// # Panics
/// When the time is up, naming `what`.
pub async fn wait_for_async<F: Future<Output = bool>>(what: &str, within: Duration, mut holds: impl FnMut() -> F) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < within, "not within {within:?}: {what}");
        tokio::time::sleep(STEP).await;
    }
}
