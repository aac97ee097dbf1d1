//! A server that does what a case says: the other end for the worker of an SDK.
use std::{
    convert::Infallible,
    net::SocketAddr,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status, Streaming, body::Body, server::Grpc};
use tower::Service;

use crate::{
    dynamic::Raw,
    inbox::Direction,
    proxy::Proxy,
    stream::{Ends, Stream, Transcript, forward},
};

/// The server. Ends when it is dropped.
#[derive(Debug)]
pub struct ScriptedServer {
    streams: mpsc::UnboundedReceiver<Ends>,
    proxy: Proxy,
    _task: AbortOnDropHandle<()>,
}

impl ScriptedServer {
    /// Starts on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (opened, streams) = mpsc::unbounded_channel();
        let server = tonic::transport::Server::builder()
            .add_service(Endpoint { opened })
            .serve_with_incoming(TcpListenerStream::new(listener));
        let task = tokio::spawn(async move { server.await.expect("the scripted server serves") });
        Self { streams, proxy: Proxy::to(address).await, _task: AbortOnDropHandle::new(task) }
    }

    /// Where workers find it.
    pub fn address(&self) -> SocketAddr {
        self.proxy.address
    }

    /// Cuts all connections.
    pub async fn cut(&self) {
        self.proxy.cut().await;
    }

    /// The next stream that a worker opens.
    pub async fn accept(&mut self, name: &str, transcript: Transcript, within: Duration) -> Option<Stream> {
        let ends = tokio::time::timeout(within, self.streams.recv()).await.ok()??;
        Some(Stream::new(name, Direction::FromWorker, ends, transcript))
    }

    /// Streams that were opened and nobody accepted.
    pub fn unaccepted(&mut self) -> usize {
        std::iter::from_fn(|| self.streams.try_recv().ok()).count()
    }
}

/// The gRPC side.
#[derive(Clone)]
struct Endpoint {
    opened: mpsc::UnboundedSender<Ends>,
}

impl tonic::server::NamedService for Endpoint {
    const NAME: &'static str = "jobwire.v1.WorkerService";
}

impl Service<http::Request<Body>> for Endpoint {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            if request.uri().path() == "/jobwire.v1.WorkerService/StreamJobs" {
                return Ok(Grpc::new(Raw).streaming(this, request).await);
            }
            Ok(Status::unimplemented("the script has no such call").into_http())
        })
    }
}

impl Service<Request<Streaming<Bytes>>> for Endpoint {
    type Response = Response<UnboundedReceiverStream<Result<Bytes, Status>>>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let (out, frames) = mpsc::unbounded_channel();
        let (arrive, arrivals) = mpsc::unbounded_channel();
        let (reading, may_read) = watch::channel(true);
        let reader = tokio::spawn(forward(request.into_inner(), arrive, may_read));
        // If the case is over nobody wants it.
        let _ = self.opened.send(Ends { out, arrivals, reading, reader, proxy: None });
        Box::pin(async move { Ok(Response::new(UnboundedReceiverStream::new(frames))) })
    }
}
