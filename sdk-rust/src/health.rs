//! What a worker tells probes and scrapers over HTTP: `/livez`, `/readyz`, `/metrics`. Served on the session's thread, so
//! that handlers which block their runtime do not make the process look dead.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use crate::errors::Error;

/// Longest life of one connection: a request and its answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections at once.
const CONNECTIONS: usize = 64;

/// Where a worker's health endpoint listens: a port of 127.0.0.1, "host:port", an address, or a listener bound already.
#[derive(Debug)]
pub struct HealthAddr(Place);

#[derive(Debug)]
enum Place {
    Named(String),
    Bound(TcpListener),
}

impl From<u16> for HealthAddr {
    fn from(port: u16) -> Self {
        Self(Place::Named(format!("127.0.0.1:{port}")))
    }
}

impl From<&str> for HealthAddr {
    fn from(address: &str) -> Self {
        Self(Place::Named(address.to_owned()))
    }
}

impl From<String> for HealthAddr {
    fn from(address: String) -> Self {
        Self(Place::Named(address))
    }
}

impl From<SocketAddr> for HealthAddr {
    fn from(address: SocketAddr) -> Self {
        Self(Place::Named(address.to_string()))
    }
}

impl From<TcpListener> for HealthAddr {
    fn from(listener: TcpListener) -> Self {
        Self(Place::Bound(listener))
    }
}

impl HealthAddr {
    pub(crate) fn bind(self) -> Result<TcpListener, Error> {
        let (name, bound) = match self.0 {
            Place::Named(name) => (name.clone(), TcpListener::bind(name)),
            Place::Bound(listener) => ("its address".to_owned(), Ok(listener)),
        };
        let listener = bound.and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
        listener.map_err(|error| {
            Error::Config(format!("the health endpoint cannot listen on {name}: {error}; give .health(…) a free port"))
        })
    }
}

/// Numbers of one worker process.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub slots: usize,
    pub running: AtomicUsize,
    /// Connected and not draining.
    pub ready: AtomicBool,
    pub reconnects: AtomicU64,
    lag_micros: AtomicU64,
    /// By type as it was registered, and outcome: both closed sets.
    ended: Mutex<BTreeMap<(String, &'static str), u64>>,
}

impl Metrics {
    pub fn new(slots: usize) -> Self {
        Self { slots, ..Self::default() }
    }

    pub fn ended(&self, r#type: &str, outcome: &'static str) {
        let mut ended = self.ended.lock().expect("no holder panics");
        *ended.entry((r#type.to_owned(), outcome)).or_default() += 1;
    }

    pub fn lag(&self, lag: Duration) {
        self.lag_micros.store(lag.as_micros().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// As Prometheus reads them.
    fn text(&self) -> String {
        let mut page = String::new();
        let running = self.running.load(Ordering::Relaxed);
        let lag = self.lag_micros.load(Ordering::Relaxed) as f64 / 1e6;
        let reconnects = self.reconnects.load(Ordering::Relaxed);
        family(&mut page, "jobwire_worker_slots", "gauge", "Handlers that may run at once.");
        let _ = writeln!(page, "jobwire_worker_slots {}", self.slots);
        family(&mut page, "jobwire_worker_running", "gauge", "Handlers that run.");
        let _ = writeln!(page, "jobwire_worker_running {running}");
        family(&mut page, "jobwire_worker_loop_lag_seconds", "gauge", "How late the handlers' runtime turned last.");
        let _ = writeln!(page, "jobwire_worker_loop_lag_seconds {lag}");
        family(&mut page, "jobwire_client_reconnects_total", "counter", "Streams opened after the first.");
        let _ = writeln!(page, "jobwire_client_reconnects_total {reconnects}");
        family(&mut page, "jobwire_worker_jobs_total", "counter", "Attempts that ended here, by type and outcome.");
        for ((r#type, outcome), count) in &*self.ended.lock().expect("no holder panics") {
            let r#type = r#type.replace('\\', r"\\").replace('"', "\\\"");
            let _ = writeln!(page, "jobwire_worker_jobs_total{{type=\"{type}\",outcome=\"{outcome}\"}} {count}");
        }
        page
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, text) = match request.uri().path() {
            "/livez" => (StatusCode::OK, "ok\n".to_owned()),
            "/readyz" if self.ready.load(Ordering::Relaxed) => (StatusCode::OK, "ready\n".to_owned()),
            "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, "not connected, or draining\n".to_owned()),
            "/metrics" => (StatusCode::OK, self.text()),
            _ => (StatusCode::NOT_FOUND, "/livez, /readyz or /metrics\n".to_owned()),
        };
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        let plain = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
        response
    }
}

fn family(page: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// Answers until the runtime ends.
pub(crate) async fn serve(listener: TcpListener, metrics: Arc<Metrics>) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let places = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return Ok(()) };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: others have to end first.
                tracing::warn!(%error, "the health endpoint cannot accept");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let metrics = metrics.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let response = metrics.answer(&request);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), answer);
            let _ = tokio::time::timeout(PATIENCE, connection).await;
            drop(place);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_prometheus_text() {
        let metrics = Metrics { slots: 3, ..Metrics::default() };
        metrics.ended("a\"b", "succeeded");
        metrics.ended("a\"b", "succeeded");
        metrics.lag(Duration::from_millis(1_500));
        let text = metrics.text();
        for line in [
            "# TYPE jobwire_worker_slots gauge",
            "jobwire_worker_slots 3",
            "jobwire_worker_running 0",
            "jobwire_worker_loop_lag_seconds 1.5",
            "jobwire_client_reconnects_total 0",
            r#"jobwire_worker_jobs_total{type="a\"b",outcome="succeeded"} 2"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn a_port_in_use_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = taken.local_addr().expect("an address").port();
        let error = HealthAddr::from(port).bind().expect_err("taken").to_string();
        assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains(".health("), "{error}");
    }
}
