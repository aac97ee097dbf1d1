//! A store over the network may come up after its servers: it is waited for, within reason.
use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep};

use crate::store::StoreError;

/// Longest wait for a store that cannot be reached. Then the process ends, for whoever started it to see.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two lines in the log.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Opens it, again and again while it is `Unavailable`, for this long. Every other error is final at once.
pub async fn open<T, F>(patience: Duration, mut attempt: impl FnMut() -> F) -> Result<T, StoreError>
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
        if start.elapsed() >= patience {
            let why = format!("{why}; given up after {} s", patience.as_secs());
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

    #[tokio::test]
    async fn an_outage_is_waited_for_and_a_refusal_is_not() {
        let tries = Cell::new(0);
        let opened = open(PATIENCE, async || {
            tries.set(tries.get() + 1);
            if tries.get() < 3 { Err(StoreError::Unavailable("away".to_owned())) } else { Ok(tries.get()) }
        });
        assert_eq!(opened.await.expect("opened"), 3);

        tries.set(0);
        let refused = open(PATIENCE, async || {
            tries.set(tries.get() + 1);
            Err::<(), _>(StoreError::Refused("no".to_owned()))
        });
        assert!(matches!(refused.await, Err(StoreError::Refused(_))));
        assert_eq!(tries.get(), 1);
    }

    #[tokio::test]
    async fn patience_ends() {
        let gone = open(Duration::ZERO, async || Err::<(), _>(StoreError::Unavailable("r:1: away".to_owned())));
        let error = gone.await.expect_err("given up").to_string();
        assert!(error.contains("r:1: away") && error.contains("given up after 0 s"), "{error}");
    }
}
