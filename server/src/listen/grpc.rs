//! HTTP/2 with prior knowledge: gRPC. Whoever speaks something else is told so.
use std::{convert::Infallible, io::Cursor, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tonic::{body::Body, transport::server::TcpConnectInfo};
use tower::{Service, ServiceExt};

use super::{Refused, Running, Settings, Signals, Stats};

/// What every HTTP/2 client sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// An empty SETTINGS frame, then GOAWAY: last stream 0, ENHANCE_YOUR_CALM, and a text for the client's error message.
const REFUSAL: &[u8] = b"\0\0\0\x04\0\0\0\0\0\
    \0\0\x25\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0bjobwire: too many connections";

const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const HEADER_LIST_BYTES: u32 = 16 << 10;
/// Streams that the server resets for a client's mistakes before it hangs up.
const ERROR_RESETS: usize = 100;
const PING_EVERY: Duration = Duration::from_secs(30);
const PONG_WITHIN: Duration = Duration::from_secs(10);

/// Serves gRPC on the listener. `http_hint` tells a browser that came to the wrong port where to go.
pub fn grpc<S>(tcp: TcpListener, settings: &Settings, http_hint: String, service: S) -> Running
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    // No adaptive window: it starts at 64 KiB, and many small frames in a small window end a connection (h2 counts them
    // against floods).
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(settings.max_streams)
        .max_header_list_size(HEADER_LIST_BYTES)
        .max_local_error_reset_streams(ERROR_RESETS)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN);
    let http_hint: Arc<str> = http_hint.into();
    let patience = settings.handshake_timeout;
    super::run(tcp, settings, REFUSAL, move |stream, peer, signals, stats| {
        let connection = Connection { builder: builder.clone(), service: service.clone(), peer, signals };
        connection.serve(stream, patience, http_hint.clone(), stats)
    })
}

struct Connection<S> {
    builder: http2::Builder<TokioExecutor>,
    service: S,
    peer: SocketAddr,
    signals: Signals,
}

impl<S> Connection<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    async fn serve(self, mut stream: TcpStream, patience: Duration, http_hint: Arc<str>, stats: Arc<Stats>) {
        let hello = tokio::select! {
            biased;
            // Nothing was asked yet, so nothing is lost.
            () = self.signals.drain.cancelled() => return,
            hello = tokio::time::timeout(patience, read_hello(&mut stream)) => hello.unwrap_or(Hello::Nothing),
        };
        let peer = self.peer;
        match hello {
            Hello::Http2(start) => self.speak(stream, start).await,
            Hello::Nothing => {
                stats.refuse(Refused::Handshake);
                tracing::debug!(%peer, "a connection did not start to speak HTTP/2 in time");
            }
            Hello::Http1 => {
                stats.refuse(Refused::Protocol);
                tracing::debug!(%peer, "HTTP/1 on the gRPC port");
                let _ = tokio::time::timeout(patience, answer_http1(stream, &http_hint)).await;
            }
            Hello::Other => {
                stats.refuse(Refused::Protocol);
                tracing::debug!(%peer, "neither HTTP/2 nor HTTP/1 on the gRPC port; this version has no TLS");
            }
        }
    }

    async fn speak(self, stream: TcpStream, start: Vec<u8>) {
        let info = TcpConnectInfo { local_addr: stream.local_addr().ok(), remote_addr: Some(self.peer) };
        let (read, write) = stream.into_split();
        let io = TokioIo::new(tokio::io::join(Cursor::new(start).chain(read), write));
        let service = self.service;
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(info.clone());
            service.clone().oneshot(request)
        });
        let mut connection = pin!(self.builder.serve_connection(io, service));
        let mut draining = false;
        loop {
            tokio::select! {
                biased;
                () = self.signals.cut.cancelled() => return,
                () = self.signals.drain.cancelled(), if !draining => {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(peer = %self.peer, %error, "a connection broke");
                    }
                    return;
                }
            }
        }
    }
}

/// How a connection starts.
enum Hello {
    /// With the preface, and what was read of what follows.
    Http2(Vec<u8>),
    Http1,
    Other,
    /// It left.
    Nothing,
}

/// Reads until it is clear what the client speaks.
async fn read_hello(stream: &mut TcpStream) -> Hello {
    let mut start = Vec::with_capacity(256);
    loop {
        match stream.read_buf(&mut start).await {
            Ok(0) | Err(_) => return Hello::Nothing,
            Ok(_) => {}
        }
        let known = start.len().min(PREFACE.len());
        if start[..known] != PREFACE[..known] {
            return if start[0].is_ascii_uppercase() { Hello::Http1 } else { Hello::Other };
        }
        if known == PREFACE.len() {
            return Hello::Http2(start);
        }
    }
}

async fn answer_http1(mut stream: TcpStream, http_hint: &str) -> std::io::Result<()> {
    let text = format!("This port speaks gRPC, over HTTP/2 without TLS. {http_hint}\n");
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // Hanging up on unread bytes would reset the connection before the answer is read.
    tokio::io::copy(&mut stream.take(1 << 20), &mut tokio::io::sink()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_is_two_whole_frames() {
        let (settings, goaway) = REFUSAL.split_at(9);
        assert_eq!(settings, [0, 0, 0, 4, 0, 0, 0, 0, 0]);
        let length = usize::from(goaway[2]);
        assert_eq!(goaway.len(), 9 + length);
        assert_eq!(goaway[3], 7, "GOAWAY");
        assert_eq!(goaway[9..17], [0, 0, 0, 0, 0, 0, 0, 0x0b], "stream 0, ENHANCE_YOUR_CALM");
    }
}
