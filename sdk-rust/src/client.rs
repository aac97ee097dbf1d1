//! The producer's side: one value per process, cheap to clone.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::errors::Error;
use crate::target::Settings;
use crate::transport::Transport;

/// A call that nobody gave a deadline, repeats included.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A way to a Jobwire deployment. Cheap to clone; opens nothing until it is used, and reconnects by itself.
///
/// Calls are repeated while the server is UNAVAILABLE, with the same job id, for up to [`timeout`](ClientBuilder::timeout).
/// Concurrent enqueue calls coalesce into few requests: to enqueue fast, await many at once. One call awaited at a time
/// costs a network hop and a durable write.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub transport: Arc<Transport>,
    pub timeout: Duration,
    #[cfg(feature = "client")]
    pub results: Arc<crate::results::Results>,
    #[cfg(feature = "client")]
    pub coalescer: Arc<crate::coalesce::Coalescer>,
}

impl Client {
    /// A client by the environment: `JOBWIRE_URL` (default `jobwire://127.0.0.1:7420`), `JOBWIRE_TOKEN` or
    /// `JOBWIRE_TOKEN_FILE`, `JOBWIRE_CA_FILE`, `JOBWIRE_CERT_FILE`, `JOBWIRE_KEY_FILE`. Fails on values that make no
    /// sense; whether there is a server shows with the first call.
    pub fn from_env() -> Result<Self, Error> {
        Self::builder().build()
    }

    /// A client of the server at `url`, everything else by the environment: `jobwire://host[:7420]`, `jobwires://` for
    /// TLS, or a comma list of them for several servers of one deployment.
    pub fn connect(url: impl Into<String>) -> Result<Self, Error> {
        Self::builder().url(url).build()
    }

    /// A client with settings in code; what is not set comes from the environment.
    pub fn builder() -> ClientBuilder {
        ClientBuilder { settings: Settings::from_env(|name| std::env::var(name).ok()), timeout: TIMEOUT }
    }

    /// A client over a transport that exists.
    #[cfg(feature = "testing")]
    pub(crate) fn over(transport: Transport) -> Self {
        Self::new(transport, TIMEOUT)
    }

    fn new(transport: Transport, timeout: Duration) -> Self {
        let transport = Arc::new(transport);
        Self {
            shared: Arc::new(Shared {
                #[cfg(feature = "client")]
                results: Arc::new(crate::results::Results::new(transport.clone())),
                #[cfg(feature = "client")]
                coalescer: Arc::new(crate::coalesce::Coalescer::new(transport.clone())),
                transport,
                timeout,
            }),
        }
    }

    pub(crate) fn transport(&self) -> Arc<Transport> {
        self.shared.transport.clone()
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }
}

/// Settings of a [`Client`]. What is not set comes from the environment.
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    settings: Settings,
    timeout: Duration,
}

impl ClientBuilder {
    /// `jobwire://host[:7420]`, `jobwires://` for TLS, or a comma list: a random one first, the next when it is not
    /// available.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.settings.url = Some(url.into());
        self
    }

    /// A bearer token.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        (self.settings.token, self.settings.token_file) = (Some(token.into()), None);
        self
    }

    /// A file that holds a bearer token; read again when the token is refused and for each new stream.
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        (self.settings.token, self.settings.token_file) = (None, Some(path.into()));
        self
    }

    /// Certificates to trust, as PEM. Default: the system's.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.ca_file = Some(path.into());
        self
    }

    /// Certificate and key of this client, as PEM, for mTLS.
    pub fn identity_files(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        (self.settings.cert_file, self.settings.key_file) = (Some(cert.into()), Some(key.into()));
        self
    }

    /// Lets the token travel unencrypted beyond this machine.
    pub fn allow_plaintext_token(mut self) -> Self {
        self.settings.allow_plaintext_token = true;
        self
    }

    /// How long a call may take, repeats included. Default 30 s. Waiting for results has its own.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The client. Opens nothing yet.
    pub fn build(self) -> Result<Client, Error> {
        Ok(Client::new(Transport::new(self.settings.target()?), self.timeout))
    }
}
