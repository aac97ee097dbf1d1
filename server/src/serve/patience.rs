//! A store over the network may come up after its servers: it is waited for, within reason.
use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep};

use crate::store::StoreError;

/// Longest wait for a store that cannot be reached. Then the process ends, for whoever started it to see.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two lines in the log.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Opens it, again and again while it is `Unavailable`, for 60 s. Every other error is final at once.
pub async fn open<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let start = Instant::now();
    let mut said: Option<Instant> = None;
    loop {
        let why = match attempt().await {
            Err(StoreError::Unavailable(why)) => why,
            done => return done,
        };
        if start.elapsed() >= PATIENCE {
            let why = format!("{why}; given up after {} s", PATIENCE.as_secs());
            return Err(StoreError::Unavailable(why));
        }
        if said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            tracing::warn!(error = why, "waiting for the store");
            said = Some(Instant::now());
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_waited_for_and_a_refusal_is_not() {
        let tries = Cell::new(0);
        let opened = open(async || {
            tries.set(tries.get() + 1);
            if tries.get() < 10 { Err(StoreError::Unavailable("away".to_owned())) } else { Ok(tries.get()) }
        });
        assert_eq!(opened.await.expect("opened"), 10);

        tries.set(0);
        let refused = open(async || {
            tries.set(tries.get() + 1);
            Err::<(), _>(StoreError::Refused("no".to_owned()))
        });
        assert!(matches!(refused.await, Err(StoreError::Refused(_))));
        assert_eq!(tries.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends() {
        let start = Instant::now();
        let gone = open(async || Err::<(), _>(StoreError::Unavailable("r:1: away".to_owned())));
        let error = gone.await.expect_err("given up").to_string();
        assert!(error.contains("r:1: away") && error.contains("60 s"), "{error}");
        assert!(start.elapsed() >= PATIENCE && start.elapsed() < PATIENCE * 2);
    }
}
