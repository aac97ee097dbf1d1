//! Unary calls: repeated while the server is UNAVAILABLE if that is harmless, and the builders that make them.

use std::time::Instant;

use prost::Message;

use crate::backoff::Backoff;
use crate::client::Shared;
use crate::errors::Error;

impl Shared {
    /// When a call that begins now has to be over.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// A call that may be repeated.
    pub async fn idempotent<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Error>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let deadline = self.deadline();
        let mut backoff = Backoff::calls();
        loop {
            let timeout = deadline.saturating_duration_since(Instant::now());
            match self.transport.unary(path, request.clone(), timeout).await {
                Ok(answer) => return Ok(answer),
                Err(error) => backoff.pause(error, deadline).await?,
            }
        }
    }

    /// A call that may not.
    pub async fn once<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Error>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        Ok(self.transport.unary(path, request, self.timeout).await?)
    }
}

/// Makes a builder that has `async fn send(self)` something to `.await`.
#[cfg(feature = "client")]
macro_rules! awaited {
    ($builder:ty => $output:ty) => {
        impl std::future::IntoFuture for $builder {
            type Output = Result<$output, $crate::errors::Error>;
            type IntoFuture = futures::future::BoxFuture<'static, Self::Output>;

            fn into_future(self) -> Self::IntoFuture {
                Box::pin(self.send())
            }
        }
    };
}
#[cfg(feature = "client")]
pub(crate) use awaited;
