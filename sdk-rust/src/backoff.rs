//! How long to wait before a call is repeated: full jitter, doubling.

use std::time::{Duration, Instant};

use crate::errors::{Code, RpcError};

const FIRST: Duration = Duration::from_millis(50);

pub(crate) struct Backoff {
    ceiling: Duration,
    max: Duration,
}

impl Backoff {
    /// For calls: 50 ms to 5 s.
    pub fn calls() -> Self {
        Self { ceiling: FIRST, max: Duration::from_secs(5) }
    }

    /// For streams: 50 ms to 15 s.
    pub fn streams() -> Self {
        Self { ceiling: FIRST, max: Duration::from_secs(15) }
    }

    pub fn delay(&mut self, error: &RpcError) -> Duration {
        let delay = self.ceiling.mul_f64(rand::random::<f64>());
        self.ceiling = (self.ceiling * 2).min(self.max);
        delay.max(error.retry_delay.unwrap_or_default())
    }

    /// Waits before another try. Gives the error back when it is not UNAVAILABLE, or when the deadline would pass.
    pub async fn pause(&mut self, error: Box<RpcError>, deadline: Instant) -> Result<(), Box<RpcError>> {
        if error.code != Code::Unavailable {
            return Err(error);
        }
        let delay = self.delay(&error);
        if Instant::now() + delay >= deadline {
            return Err(error);
        }
        tokio::time::sleep(delay).await;
        Ok(())
    }
}
