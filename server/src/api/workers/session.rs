//! One worker's stream, from its first frame to its status. Reading and writing are independent: neither a slow store nor
//! a slow reader keeps frames of the worker from being read.
use std::{
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::Duration,
};

use jobwire_proto::v1;
use tokio::sync::mpsc::Receiver;
use tonic::{Code, Streaming};

use crate::{
    api::{
        convert::{Parsed, frame, lease},
        status::{ApiError, Reason},
        stream::{Inbound, Sender, next},
        streaming,
    },
    engine::{Engine, SessionEnd, SessionHandle},
    model::worker::{ServerFrame, WorkerFrame},
};

/// How long the first frame may take.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// When a worker that was sent away may come back.
const RECONNECT: Duration = Duration::from_millis(500);

/// `seq` of the first frame.
const FIRST: i64 = 1;

type Frames = Streaming<v1::StreamJobsRequest>;

pub async fn run(engine: Engine, mut inbound: Frames, out: Sender<v1::StreamJobsResponse>) -> Result<(), ApiError> {
    let first = match tokio::time::timeout(HELLO_TIMEOUT, next(&mut inbound)).await {
        Ok(Inbound::Message(frame)) => frame,
        Ok(Inbound::End | Inbound::Broken) => return Ok(()),
        Ok(Inbound::Refused(error)) => return Err(error),
        Err(_) => return Err(violation("hello", "did not arrive in time").coded(Code::DeadlineExceeded)),
    };
    let (opening, rest) = open(&engine, first)?;
    let (handle, frames) = engine.open_session(opening.hello, FIRST).await?;
    let sent = AtomicI64::new(0);
    let write = write(&engine, frames, out, opening.unknown, &sent);
    tokio::pin!(write);
    let stop = tokio::select! {
        written = &mut write => Stop::Written(written),
        stop = read(&engine, &mut inbound, &handle, rest, &sent) => stop,
    };
    let written = match stop {
        // Dropping the handle tells the engine that the stream broke.
        Stop::Refused(error) => return Err(error),
        Stop::Broken => return Ok(()),
        Stop::HalfClosed => {
            handle.half_close().await;
            write.await
        }
        Stop::Ended => write.await,
        Stop::Written(written) => written,
    };
    match written {
        Written::Everything => status_of(handle.ended().await),
        Written::Gone => Ok(()),
    }
}

/// Reads the first frame: the hello, and what else travelled with it.
fn open(engine: &Engine, mut first: v1::StreamJobsRequest) -> Parsed<(frame::Opening, Option<WorkerFrame>)> {
    let Some(hello) = first.hello.take() else {
        return Err(violation("hello", "must be in the first frame"));
    };
    if first.seq != FIRST {
        return Err(violation("seq", format!("is {}, but the first frame is {FIRST}", first.seq)));
    }
    if first.received_seq != 0 {
        return Err(violation("received_seq", "must be 0 before anything was sent"));
    }
    let ctx = streaming(engine);
    let mut opening = frame::hello(ctx, hello)?;
    let rest = frame::frame(ctx, first)?;
    opening.hello.state = rest.state.unwrap_or_default();
    let empty = WorkerFrame { seq: FIRST, ..Default::default() };
    Ok((opening, (rest != empty).then_some(rest)))
}

/// Why reading, or writing, stopped first.
enum Stop {
    /// The worker has nothing more to say, and waits for its acks.
    HalfClosed,
    Broken,
    Refused(ApiError),
    /// The engine takes no more frames: the session is over.
    Ended,
    /// Writing stopped first.
    Written(Written),
}

/// How writing stopped.
enum Written {
    /// The engine has closed the session, and everything it had to say is on its way.
    Everything,
    /// The client is gone.
    Gone,
}

/// Hands frames to the engine, `rest` of the first one before all. Never waits for the store.
async fn read(
    engine: &Engine,
    inbound: &mut Frames,
    handle: &SessionHandle,
    rest: Option<WorkerFrame>,
    sent: &AtomicI64,
) -> Stop {
    if let Some(rest) = rest
        && !handle.frame(rest).await
    {
        return Stop::Ended;
    }
    let mut expected = FIRST;
    loop {
        expected += 1;
        let frame = match next(inbound).await {
            Inbound::Message(frame) => frame,
            Inbound::End => return Stop::HalfClosed,
            Inbound::Broken => return Stop::Broken,
            Inbound::Refused(error) => return Stop::Refused(error),
        };
        if frame.hello.is_some() {
            return Stop::Refused(violation("hello", "goes with the first frame only"));
        }
        if frame.seq != expected {
            return Stop::Refused(violation("seq", format!("is {}, but the next frame is {expected}", frame.seq)));
        }
        let sent = sent.load(Relaxed);
        if frame.received_seq > sent {
            let message = format!("is {}, but only frames up to {sent} were sent", frame.received_seq);
            return Stop::Refused(violation("received_seq", message));
        }
        match frame::frame(streaming(engine), frame) {
            Err(error) => return Stop::Refused(error),
            Ok(frame) => {
                if !handle.frame(frame).await {
                    return Stop::Ended;
                }
            }
        }
    }
}

/// Writes the engine's frames until it has no more. `unknown`: tokens that the welcome reports as lost. `sent`: the number
/// of the last frame.
async fn write(
    engine: &Engine,
    mut frames: Receiver<ServerFrame>,
    out: Sender<v1::StreamJobsResponse>,
    mut unknown: Vec<String>,
    sent: &AtomicI64,
) -> Written {
    while let Some(frame) = frames.recv().await {
        let server = lease::Server { id: engine.server_id(), limits: engine.limits(), now_ms: engine.wall_ms() };
        sent.store(frame.seq, Relaxed);
        if out.send(Ok(lease::frame(&server, frame, &mut unknown))).await.is_err() {
            return Written::Gone;
        }
    }
    Written::Everything
}

/// The status that a session's end becomes.
fn status_of(end: SessionEnd) -> Result<(), ApiError> {
    match end {
        SessionEnd::Clean => Ok(()),
        SessionEnd::Moved => Err(ApiError::new(Reason::SessionMoved, "a newer stream of this session has taken over")),
        SessionEnd::GoAway => {
            Err(ApiError::new(Reason::ShuttingDown, "the server ends this stream; reconnect").retry_after(RECONNECT))
        }
        SessionEnd::Violation(what) => Err(ApiError::new(Reason::ProtocolViolation, what)),
    }
}

fn violation(field: &str, message: impl Into<String>) -> ApiError {
    ApiError::new(Reason::ProtocolViolation, message).at(field)
}
