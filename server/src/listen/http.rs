//! HTTP/1.1: health, metrics, pages.
use std::pin::pin;

use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::TcpListener;

use super::{Running, Settings};

const REFUSAL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 21\r\nconnection: close\r\n\r\ntoo many connections\n";

/// Serves the router on the listener.
pub fn http(tcp: TcpListener, settings: &Settings, router: axum::Router) -> Running {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(settings.handshake_timeout);
    super::run(tcp, settings, REFUSAL, move |stream, peer, signals, _| {
        let (builder, router) = (builder.clone(), router.clone());
        async move {
            let service = TowerToHyperService::new(router);
            let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
            let mut draining = false;
            loop {
                tokio::select! {
                    biased;
                    () = signals.cut.cancelled() => return,
                    () = signals.drain.cancelled(), if !draining => {
                        draining = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    ended = connection.as_mut() => {
                        if let Err(error) = ended {
                            tracing::debug!(%peer, %error, "a connection broke");
                        }
                        return;
                    }
                }
            }
        }
    })
}
