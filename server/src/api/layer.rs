//! The layer around every call: our codes for what tonic decides by itself, deadlines, panics.
//!
//! tonic answers an oversized message with OUT_OF_RANGE, a unary call without a message or with one that is not protobuf
//! with INTERNAL, and lets panics through. Clients get the codes of the gRPC table, each with a reason.
use std::{
    any::Any,
    convert::Infallible,
    future::Future as _,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use http::{HeaderMap, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Code, Status, body::Body};
use tower::Service;

use super::status::{ApiError, Reason};

const GRPC: &str = "application/grpc";

/// A gRPC service with our codes.
#[derive(Clone, Debug)]
pub struct Guarded<S> {
    inner: S,
    draining: CancellationToken,
}

impl<S> Guarded<S> {
    /// `draining` is cancelled when the server is about to stop: streams of the standard services end, which would
    /// otherwise go on for ever. Ours end by themselves.
    pub fn new(inner: S, draining: CancellationToken) -> Self {
        Self { inner, draining }
    }
}

impl<S, B> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if !is_grpc(request.headers()) {
            let mut refusal = Response::new(Body::default());
            *refusal.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return std::future::ready(Ok(refusal)).boxed();
        }
        let deadline = deadline(request.headers());
        let standard = request.uri().path().starts_with("/grpc.");
        let until = standard.then(|| Box::pin(self.draining.clone().cancelled_owned()));
        let request = request.map(Body::new);
        // The service that was polled ready makes the call; its clone stays for the next one.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let call = AssertUnwindSafe(async move { inner.call(request).await }).catch_unwind();
        async move {
            // Streams answer with their headers at once, so only the head has a deadline here.
            let answer = match deadline {
                None => call.await,
                Some(deadline) => match tokio::time::timeout(deadline, call).await {
                    Ok(answer) => answer,
                    Err(_) => return Ok(Status::deadline_exceeded("the call's deadline has passed").into_http()),
                },
            };
            Ok(match answer {
                Ok(Ok(response)) => ours(response, until),
                Ok(Err(never)) => match never {},
                Err(panic) => Status::from(ApiError::bug(panic_text(&*panic))).into_http(),
            })
        }
        .boxed()
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
    // `application/grpc`, `application/grpc+proto`, but not `application/grpc-web`, which is translated further out.
    content_type
        .strip_prefix(GRPC.as_bytes())
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// What `grpc-timeout` says. A malformed one is ignored, as if it were not there.
fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3_600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// A response whose status, in its headers or trailers, is one of ours.
fn ours(mut response: Response<Body>, until: Option<Until>) -> Response<Body> {
    // Anything but gRPC's 200 was made outside of a handler.
    if response.status() != StatusCode::OK {
        let status = Status::from(ApiError::new(Reason::FeatureDisabled, "no such service or method"));
        return status.into_http();
    }
    translate(response.headers_mut());
    response.map(|body| Body::new(Trailed { body, until, done: false }))
}

/// Replaces a status that tonic made.
fn translate(headers: &mut HeaderMap) {
    let Some(status) = Status::from_header_map(headers).filter(|status| status.code() != Code::Ok) else { return };
    if let Some(error) = ApiError::from_tonic(&status) {
        for name in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
            headers.remove(name);
        }
        // Fails only for metadata that does not fit into headers; ours is text.
        let _ = Status::from(error).add_header(headers);
    }
}

/// A body whose trailers carry a status of ours, and whose panics become one.
struct Trailed {
    body: Body,
    /// Ends the body from outside.
    until: Option<Until>,
    done: bool,
}

type Until = Pin<Box<WaitForCancellationFutureOwned>>;

impl Trailed {
    fn end_with(&mut self, error: ApiError) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.done = true;
        let mut trailers = HeaderMap::new();
        // Fails only for metadata that does not fit into headers; ours is text.
        let _ = Status::from(error).add_header(&mut trailers);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

impl HttpBody for Trailed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.done {
            return Poll::Ready(None);
        }
        let body = Pin::new(&mut self.body);
        match std::panic::catch_unwind(AssertUnwindSafe(|| body.poll_frame(cx))) {
            Ok(Poll::Ready(Some(Ok(mut frame)))) => {
                if let Some(trailers) = frame.trailers_mut() {
                    translate(trailers);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Ok(Poll::Pending) => match self.until.as_mut().map(|until| until.as_mut().poll(cx)) {
                Some(Poll::Ready(())) => self.end_with(ApiError::shutting_down()),
                Some(Poll::Pending) | None => Poll::Pending,
            },
            Ok(ready) => ready,
            Err(panic) => self.end_with(ApiError::bug(panic_text(&*panic))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.done || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What a panic said. For the log.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without words")
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use http_body_util::BodyExt as _;
    use tonic_types::StatusExt as _;
    use tower::ServiceExt as _;

    use super::*;

    fn request() -> Request<Body> {
        let request = Request::post("/jobwire.v1.JobService/GetJob").header(CONTENT_TYPE, GRPC);
        request.body(Body::default()).expect("a request")
    }

    /// The status that a handler's answer arrives as.
    async fn through<F>(handler: fn() -> F, request: Request<Body>) -> (StatusCode, Option<Status>)
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let inner = tower::service_fn(move |_: Request<Body>| async move { Ok::<_, Infallible>(handler().await) });
        let response = Guarded::new(inner, CancellationToken::new()).oneshot(request).await.expect("infallible");
        let code = response.status();
        let head = Status::from_header_map(response.headers());
        let tail = response.into_body().collect().await.expect("a body").trailers().and_then(Status::from_header_map);
        (code, head.or(tail))
    }

    fn reason(status: &Status) -> String {
        status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_panic_becomes_a_status_with_an_opaque_id() {
        let (_, status) = through(|| async { panic!("the secret of the job") }, request()).await;
        let status = status.expect("a status");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Internal, "BUG"));
        assert!(!status.message().contains("secret"), "{status}");
    }

    #[tokio::test]
    async fn a_panic_in_a_body_becomes_trailers() {
        struct Panics;
        impl HttpBody for Panics {
            type Data = Bytes;
            type Error = Status;
            fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
                panic!("midway")
            }
        }
        let (_, status) = through(|| async { Response::new(Body::new(Panics)) }, request()).await;
        assert_eq!(reason(&status.expect("a status")), "BUG");
    }

    #[tokio::test]
    async fn tonics_codes_become_ours() {
        let too_large = || async { Status::out_of_range("too large").into_http() };
        let status = through(too_large, request()).await.1.expect("a status");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"));
        let ours = || async { Status::from(ApiError::field("id", "must be a UUID")).into_http() };
        let status = through(ours, request()).await.1.expect("a status");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
    }

    #[tokio::test]
    async fn deadlines_and_content_types() {
        let never = || std::future::pending::<Response<Body>>();
        let mut late = request();
        late.headers_mut().insert("grpc-timeout", "0n".parse().expect("a header"));
        let status = through(never, late).await.1.expect("a status");
        assert_eq!(status.code(), Code::DeadlineExceeded);

        let mut text = request();
        text.headers_mut().insert(CONTENT_TYPE, "text/plain".parse().expect("a header"));
        assert_eq!(through(never, text).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);

        for ignored in ["", "-1S", "abc", "1", "999999999H", "1é"] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", http::HeaderValue::from_bytes(ignored.as_bytes()).expect("a header"));
            assert_eq!(deadline(&headers), None, "{ignored}");
        }
    }
}
