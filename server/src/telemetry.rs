//! What the process says about itself: log events on stderr, metrics on request. Never payloads, header values or tokens.
use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::{LogConfig, LogFormat};

pub mod scrape;
pub mod table;

/// Sends log events to stderr from now on: text on a terminal, one JSON object a line elsewhere, unless told otherwise.
/// Called once; a second call changes nothing.
pub fn init(log: &LogConfig) {
    let terminal = std::io::stderr().is_terminal();
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let json = match log.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal,
    };
    let registry = tracing_subscriber::registry().with(filter);
    // An error means that the process has a subscriber, as tests do: theirs stays.
    let _ = if json {
        let layer = fmt::layer().json().flatten_event(true).with_writer(std::io::stderr);
        registry.with(layer).try_init()
    } else {
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let layer = fmt::layer().compact().with_ansi(colours).with_target(false).with_writer(std::io::stderr);
        registry.with(layer).try_init()
    };
}
