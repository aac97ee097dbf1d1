//! The HTTP edge: health, readiness, metrics, and a page that says where things are. Read-only, and asks the engine like
//! everybody else. Starts before the store is open, so that a long recovery can be told from a dead process.
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{Html, IntoResponse},
    routing::get,
};

use crate::{engine::Engine, listen::Stats, telemetry::scrape::Names};

mod metrics;

/// Longest time that an answer waits for the store.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// Where the server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// The store is being opened.
    Starting,
    Serving,
    /// No new work; what is in hand is being finished.
    Draining,
}

/// What the pages are made of. Shared with `serve`, which moves it through its phases.
#[derive(Default)]
pub struct Shared {
    phase: AtomicU8,
    engine: OnceLock<Engine>,
    listeners: OnceLock<[(&'static str, Arc<Stats>); 2]>,
    names: Names,
}

impl Shared {
    /// The engine is up: serve. Later calls change nothing.
    pub fn serving(&self, engine: Engine, listeners: [(&'static str, Arc<Stats>); 2]) {
        if self.engine.set(engine).is_ok() {
            let _ = self.listeners.set(listeners);
            self.phase.store(Phase::Serving as u8, Relaxed);
        }
    }

    pub fn draining(&self) {
        self.phase.store(Phase::Draining as u8, Relaxed);
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Draining,
        }
    }

    /// Why the server should get no traffic, in a word or two. `None` = it should.
    async fn unready(&self) -> Option<&'static str> {
        match (self.phase(), self.engine.get()) {
            (Phase::Draining, _) => Some("draining"),
            (Phase::Serving, Some(engine)) => match tokio::time::timeout(STORE_PATIENCE, engine.store_info()).await {
                Ok(Ok(_)) => None,
                Ok(Err(_)) | Err(_) => Some("the store does not answer"),
            },
            (Phase::Starting | Phase::Serving, _) => Some("starting"),
        }
    }
}

/// The routes of the HTTP port.
pub fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(missing)
        .with_state(shared)
}

/// The process lives and answers.
async fn healthz() -> &'static str {
    "ok\n"
}

/// The server wants traffic: 200, or 503 with the reason.
async fn readyz(State(shared): State<Arc<Shared>>) -> (StatusCode, String) {
    match shared.unready().await {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], metrics::text(&shared).await)
}

async fn home() -> impl IntoResponse {
    ([(header::CONTENT_SECURITY_POLICY, "default-src 'none'")], Html(HOME))
}

async fn missing() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "Not here. There are /healthz, /readyz and /metrics; gRPC has its own port.\n")
}

const HOME: &str = concat!(
    "<!doctype html><html lang=en><meta charset=utf-8><title>Jobwire</title><h1>Jobwire ",
    env!("CARGO_PKG_VERSION"),
    "</h1><ul><li><a href=/healthz>/healthz</a>: the process lives<li><a href=/readyz>/readyz</a>: it takes work",
    "<li><a href=/metrics>/metrics</a>: for Prometheus</ul><p>Clients and workers use the gRPC port. From a terminal: ",
    "<code>jobwire queue ls</code>, <code>jobwire job ls</code>, <code>jobwire worker ls</code>.</html>\n"
);
