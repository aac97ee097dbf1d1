//! The one module that knows the gRPC library: channels, unary calls, server streams, and the worker's stream.

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use http::uri::PathAndQuery;
use jobwire_proto::v1 as pb;
use prost::Message;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::errors::{Code, RpcError};
use crate::target::{Address, Target};

const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that is frozen, or beyond a broken network, never says so: while calls are out it is asked this often.
const PING: Duration = Duration::from_secs(10);
/// What is not answered within this has no connection any more.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Above the server's 3 MiB, so that its limits are the ones that count.
const MESSAGE_MAX: usize = 8 << 20;

pub(crate) type RpcResult<T> = Result<T, Box<RpcError>>;
pub(crate) type Incoming<T> = Pin<Box<dyn Stream<Item = RpcResult<T>> + Send>>;

/// A way to one deployment. Opens nothing until it is used.
#[derive(Debug)]
pub(crate) struct Transport {
    /// Answers instead of a server.
    #[cfg(feature = "testing")]
    local: Option<std::sync::Arc<dyn Local>>,
    target: Target,
    current: Mutex<Shared>,
    /// Counts the streams of workers, so that each goes to the next address.
    lines: AtomicUsize,
}

/// The shared connection.
#[derive(Debug)]
struct Shared {
    /// Which address is its, or the next one's.
    place: usize,
    /// Counts connections, so that of many calls that fail on one only the first replaces it.
    generation: u64,
    channel: Option<Channel>,
}

/// The connection that a call went out on.
#[derive(Debug, Clone, Copy)]
struct Used {
    place: usize,
    generation: u64,
}

impl Transport {
    /// Begins with a random address.
    pub fn new(target: Target) -> Self {
        let first = rand::random_range(0..target.addresses.len());
        Self {
            #[cfg(feature = "testing")]
            local: None,
            target,
            current: Mutex::new(Shared { place: first, generation: 0, channel: None }),
            lines: AtomicUsize::new(first),
        }
    }

    /// A way to something in this process.
    #[cfg(feature = "testing")]
    pub fn local(local: std::sync::Arc<dyn Local>) -> Self {
        Self { local: Some(local), ..Self::new(Target::nowhere()) }
    }

    /// Whether calls stay in this process.
    pub fn is_local(&self) -> bool {
        #[cfg(feature = "testing")]
        return self.local.is_some();
        #[cfg(not(feature = "testing"))]
        false
    }

    /// One request, one answer.
    pub async fn unary<Q, A>(&self, path: &'static str, request: Q, deadline: Duration) -> RpcResult<A>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        #[cfg(feature = "testing")]
        if let Some(local) = &self.local {
            let answer = local.clone().unary(path, request.encode_to_vec().into()).await?;
            return A::decode(answer).map_err(undecodable);
        }
        if !self.target.can_refresh() {
            return self.unary_once(path, request, deadline, false).await;
        }
        match self.unary_once(path, request.clone(), deadline, false).await {
            Err(error) if error.code == Code::Unauthenticated => self.unary_once(path, request, deadline, true).await,
            answer => answer,
        }
    }

    async fn unary_once<Q, A>(&self, path: &'static str, request: Q, deadline: Duration, fresh: bool) -> RpcResult<A>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let (used, channel) = self.channel()?;
        let mut grpc = Grpc::new(channel).max_decoding_message_size(MESSAGE_MAX);
        let mut request = self.request(request, fresh)?;
        request.set_timeout(deadline);
        let call = async {
            grpc.ready().await.map_err(|error| tonic::Status::from_error(error.into()))?;
            grpc.unary(request, PathAndQuery::from_static(path), ProstCodec::default()).await
        };
        match tokio::time::timeout(deadline, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.refused(&status, used)),
            Err(_) => Err(Box::new(RpcError::local(Code::DeadlineExceeded, format!("no answer within {deadline:?}")))),
        }
    }

    /// One request, many answers. No deadline.
    pub async fn server_stream<Q, A>(&self, path: &'static str, request: Q) -> RpcResult<Incoming<A>>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        #[cfg(feature = "testing")]
        if let Some(local) = &self.local {
            let request = futures::stream::iter([request.encode_to_vec().into()]).boxed();
            return Ok(decoded(local.clone().stream(path, request)));
        }
        let (used, channel) = self.channel()?;
        let mut grpc = Grpc::new(channel).max_decoding_message_size(MESSAGE_MAX);
        let request = self.request(request, true)?;
        let address = self.address(used.place);
        let answers = async {
            grpc.ready().await.map_err(|error| tonic::Status::from_error(error.into()))?;
            grpc.server_streaming(request, PathAndQuery::from_static(path), ProstCodec::default()).await
        };
        let answers = answers.await.map_err(|status| self.refused(&status, used))?.into_inner();
        Ok(answers.map_err(move |status| Box::new(rpc_error(&status, &address))).boxed())
    }

    /// Many requests, many answers, on the shared connection. No deadline.
    pub async fn duplex<Q, A>(
        &self,
        path: &'static str,
        requests: impl Stream<Item = Q> + Send + 'static,
    ) -> RpcResult<Incoming<A>>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        #[cfg(feature = "testing")]
        if let Some(local) = &self.local {
            let requests = requests.map(|request| request.encode_to_vec().into()).boxed();
            return Ok(decoded(local.clone().stream(path, requests)));
        }
        let (used, channel) = self.channel()?;
        let mut grpc = Grpc::new(channel).max_decoding_message_size(MESSAGE_MAX);
        let request = self.request(requests, true)?;
        let address = self.address(used.place);
        let answers = async {
            grpc.ready().await.map_err(|error| tonic::Status::from_error(error.into()))?;
            grpc.streaming(request, PathAndQuery::from_static(path), ProstCodec::default()).await
        };
        let answers = answers.await.map_err(|status| self.refused(&status, used))?.into_inner();
        Ok(answers.map_err(move |status| Box::new(rpc_error(&status, &address))).boxed())
    }

    /// Opens a worker's stream on a connection of its own, to the next address in turn. The first frame is queued before
    /// the call is awaited: a server may answer headers only once it has read it.
    pub fn open(&self, hello: pb::StreamJobsRequest) -> RpcResult<Line> {
        #[cfg(feature = "testing")]
        if self.local.is_some() {
            let message = "a client for tests has no server for workers: give the handlers to Fake::handlers";
            return Err(Box::new(RpcError::local(Code::FailedPrecondition, message)));
        }
        const PATH: &str = "/jobwire.v1.WorkerService/StreamJobs";
        let place = self.lines.fetch_add(1, Ordering::Relaxed) % self.target.addresses.len();
        let address = self.address(place);
        let cut = CancellationToken::new();
        let endpoint = self.endpoint(&address)?.executor(Cuttable(cut.clone()));
        let mut grpc = Grpc::new(endpoint.connect_lazy()).max_decoding_message_size(MESSAGE_MAX);
        let (frames, rest) = mpsc::unbounded_channel();
        // A closed channel is no end of the stream: an end would give the leases back.
        let rest = futures::stream::unfold(rest, |mut rest| async move {
            match rest.recv().await {
                Some(Outgoing::Frame(frame)) => Some((*frame, rest)),
                Some(Outgoing::End) => None,
                None => std::future::pending().await,
            }
        });
        let request = self.request(futures::stream::iter([hello]).chain(rest), true)?;
        let call = async move {
            grpc.ready().await.map_err(|error| tonic::Status::from_error(error.into()))?;
            let answer = grpc.streaming(request, PathAndQuery::from_static(PATH), ProstCodec::default()).await?;
            Ok::<_, tonic::Status>(answer.into_inner())
        };
        let answers = call.into_stream().try_flatten().map_err(move |status| Box::new(rpc_error(&status, &address)));
        Ok(Line { frames, answers: answers.boxed(), cut })
    }

    fn address(&self, place: usize) -> Address {
        self.target.addresses[place].clone()
    }

    fn channel(&self) -> RpcResult<(Used, Channel)> {
        let mut current = self.current.lock().expect("no holder panics");
        let used = Used { place: current.place, generation: current.generation };
        if let Some(channel) = &current.channel {
            return Ok((used, channel.clone()));
        }
        let channel = self.endpoint(&self.target.addresses[current.place])?.connect_lazy();
        current.channel = Some(channel.clone());
        Ok((used, channel))
    }

    /// What a refusal means. A connection that is of no use is left behind, for the next address if there is one: its
    /// runtime may have ended, or its server.
    fn refused(&self, status: &tonic::Status, used: Used) -> Box<RpcError> {
        let error = rpc_error(status, &self.target.addresses[used.place]);
        if error.code == Code::Unavailable {
            let mut current = self.current.lock().expect("no holder panics");
            if current.generation == used.generation {
                let place = (used.place + 1) % self.target.addresses.len();
                *current = Shared { place, generation: used.generation + 1, channel: None };
            }
        }
        Box::new(error)
    }

    fn endpoint(&self, address: &Address) -> RpcResult<Endpoint> {
        let config = |error: String| Box::new(RpcError::local(Code::InvalidArgument, error));
        let mut endpoint = Endpoint::from_shared(address.uri())
            .map_err(|error| config(format!("{} is no address: {error}", address.uri())))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PING_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_adaptive_window(false);
        if address.tls {
            endpoint = self.tls(endpoint, address)?;
        }
        Ok(endpoint)
    }

    #[cfg(feature = "tls")]
    fn tls(&self, endpoint: Endpoint, address: &Address) -> RpcResult<Endpoint> {
        use tonic::transport::{Certificate, ClientTlsConfig, Identity};
        let config = |error: String| Box::new(RpcError::local(Code::InvalidArgument, error));
        let read = |path: &std::path::Path| {
            std::fs::read(path).map_err(|error| config(format!("cannot read {}: {error}", path.display())))
        };
        let mut tls = ClientTlsConfig::new().domain_name(&address.host);
        tls = match &self.target.ca_file {
            Some(path) => tls.ca_certificate(Certificate::from_pem(read(path)?)),
            None => tls.with_native_roots(),
        };
        if let Some((cert, key)) = &self.target.identity {
            tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
        }
        endpoint.tls_config(tls).map_err(|error| config(format!("TLS: {error}")))
    }

    #[cfg(not(feature = "tls"))]
    fn tls(&self, _: Endpoint, address: &Address) -> RpcResult<Endpoint> {
        let message = format!("{} wants TLS: build with the feature `tls` of the crate `jobwire`", address.uri());
        Err(Box::new(RpcError::local(Code::InvalidArgument, message)))
    }

    fn request<T>(&self, message: T, fresh: bool) -> RpcResult<tonic::Request<T>> {
        let mut request = tonic::Request::new(message);
        let bad = |message: String| Box::new(RpcError::local(Code::Unauthenticated, message));
        if let Some(token) = self.target.token(fresh).map_err(|error| bad(error.to_string()))? {
            let mut value: MetadataValue<Ascii> = format!("Bearer {token}")
                .parse()
                .map_err(|_| bad("the token holds characters no header can".into()))?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

/// Something in this process that answers calls by their path: messages go in and out encoded.
#[cfg(feature = "testing")]
pub(crate) trait Local: std::fmt::Debug + Send + Sync {
    fn unary(
        self: std::sync::Arc<Self>,
        path: &'static str,
        request: bytes::Bytes,
    ) -> futures::future::BoxFuture<'static, RpcResult<bytes::Bytes>>;

    fn stream(
        self: std::sync::Arc<Self>,
        path: &'static str,
        requests: futures::stream::BoxStream<'static, bytes::Bytes>,
    ) -> Incoming<bytes::Bytes>;
}

#[cfg(feature = "testing")]
fn decoded<A: Message + Default + 'static>(answers: Incoming<bytes::Bytes>) -> Incoming<A> {
    answers.map(|answer| A::decode(answer?).map_err(undecodable)).boxed()
}

#[cfg(feature = "testing")]
fn undecodable(error: prost::DecodeError) -> Box<RpcError> {
    Box::new(RpcError::local(Code::Internal, error.to_string()))
}

/// A status of the server, or what the library made of a broken connection: that is UNAVAILABLE here, whatever code the
/// library chose.
fn rpc_error(status: &tonic::Status, address: &Address) -> RpcError {
    const LOCAL: [&str; 5] =
        ["h2 protocol error", "operation was canceled", "transport error", "connection error", "Missing response"];
    let message = status.message();
    let local = std::error::Error::source(status).is_some() || LOCAL.iter().any(|start| message.starts_with(start));
    if status.code() == tonic::Code::Unavailable && status.details().is_empty() && is_connect_error(message) {
        let authority = address.authority();
        return RpcError::local(
            Code::Unavailable,
            format!("no Jobwire server at {authority} ({message}). Start one: jobwire dev"),
        );
    }
    if local && matches!(status.code(), tonic::Code::Unknown | tonic::Code::Internal | tonic::Code::Cancelled) {
        return RpcError::local(
            Code::Unavailable,
            format!("the connection to {} broke: {message}", address.authority()),
        );
    }
    RpcError::from_status(status)
}

fn is_connect_error(message: &str) -> bool {
    ["error trying to connect", "tcp connect", "dns error", "deadline has elapsed"]
        .iter()
        .any(|word| message.contains(word))
}

enum Outgoing {
    Frame(Box<pb::StreamJobsRequest>),
    End,
}

/// A worker's stream. Dropped, it is cut: the server sees a broken connection, and the leases go on.
pub(crate) struct Line {
    frames: mpsc::UnboundedSender<Outgoing>,
    answers: Incoming<pb::StreamJobsResponse>,
    cut: CancellationToken,
}

impl Line {
    /// Queues a frame. Bounded by what the session lets be unacknowledged.
    pub fn send(&self, frame: pb::StreamJobsRequest) {
        let _ = self.frames.send(Outgoing::Frame(Box::new(frame)));
    }

    /// Ends the stream cleanly: leases still in hand are given back.
    pub fn half_close(&self) {
        let _ = self.frames.send(Outgoing::End);
    }

    /// The next frame; None = the server ended the stream cleanly.
    pub async fn next(&mut self) -> Option<RpcResult<pb::StreamJobsResponse>> {
        self.answers.next().await
    }

    /// A frame that is already here.
    pub fn ready(&mut self) -> Option<RpcResult<pb::StreamJobsResponse>> {
        self.answers.next().now_or_never().flatten()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.cut.cancel();
    }
}

/// Runs the tasks of one connection until it is cut. Dropping a stream is not enough: its connection would live on as
/// long as the request side of the stream does, and ending that would be a half-close.
#[derive(Clone)]
struct Cuttable(CancellationToken);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Cuttable {
    fn execute(&self, future: F) {
        let cut = self.0.clone();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = cut.cancelled() => {}
                () = future => {}
            }
        });
    }
}
