//! The client.
use crate::errors::Error;
use crate::target::Settings;
use crate::transport::Transport;
use std::sync::Arc;

/// A way to a deployment: cheap to clone, opens nothing until it is used.
#[derive(Debug, Clone)]
pub struct Client {
    transport: Arc<Transport>,
}

impl Client {
    /// By the environment.
    pub fn from_env() -> Result<Self, Error> {
        let settings = Settings::from_env(|name| std::env::var(name).ok());
        Ok(Self { transport: Arc::new(Transport::new(settings.target()?)) })
    }
    pub(crate) fn transport(&self) -> Arc<Transport> {
        self.transport.clone()
    }
}
