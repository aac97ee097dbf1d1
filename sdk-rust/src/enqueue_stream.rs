//! EnqueueStream, for producers that never stop: frames of whatever is ready, as many unacknowledged as the server lets,
//! sent again with the same ids when the stream breaks. One answer per item, in order.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::{BoxStream, Fuse, ReadyChunks};
use futures::{Stream, StreamExt};
use jobwire_proto::v1 as pb;
use tokio::sync::mpsc;

use crate::backoff::Backoff;
use crate::client::Client;
use crate::coalesce::{BYTES_MAX, JOBS_MAX};
use crate::convert::from_duration;
use crate::draft::Draft;
use crate::errors::{Code, Error, RpcError};
use crate::job::Job;
use crate::options::{Options, option_setters};
use crate::telemetry::Current;
use crate::transport::{Incoming, RpcResult};

const PATH: &str = "/jobwire.v1.JobService/EnqueueStream";

type Edit = Box<dyn Fn(&mut Options) + Send>;

/// Jobs being enqueued from a stream of tasks: itself a stream, of one answer per task, in order. Options set here are
/// those of every item. Nothing happens unless it is polled, and dropping it may leave the last frames unheard of.
#[must_use = "nothing is enqueued until this is polled"]
pub struct EnqueueStream<O> {
    state: State,
    client: Client,
    output: PhantomData<fn() -> O>,
}

enum State {
    Set(BoxStream<'static, Draft>, Vec<Edit>),
    Going(BoxStream<'static, Result<String, Error>>),
}

impl<O> EnqueueStream<O> {
    option_setters!();

    pub(crate) fn new(client: Client, drafts: impl Stream<Item = Draft> + Send + 'static) -> Self {
        Self { state: State::Set(drafts.boxed(), Vec::new()), client, output: PhantomData }
    }

    /// # Panics
    /// Once it has been polled.
    fn edit(mut self, change: impl Fn(&mut Options) + Send + 'static) -> Self {
        match &mut self.state {
            State::Set(_, edits) => edits.push(Box::new(change)),
            State::Going(_) => panic!("options of a stream are set before it is polled"),
        }
        self
    }
}

impl<O> Stream for EnqueueStream<O> {
    type Item = Result<Job<O>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let answer = loop {
            match &mut this.state {
                State::Going(answers) => break answers.poll_next_unpin(context),
                State::Set(drafts, edits) => {
                    let drafts = std::mem::replace(drafts, futures::stream::empty().boxed());
                    let pump = Pump::new(this.client.clone(), drafts, std::mem::take(edits));
                    let answers = futures::stream::unfold(pump, |mut pump| async move {
                        let answer = pump.next().await?;
                        Some((answer, pump))
                    });
                    this.state = State::Going(answers.boxed());
                }
            }
        };
        let job = |id| Job { client: this.client.clone(), id, status: None, output: PhantomData };
        answer.map(|answer| answer.map(|id| id.map(job)))
    }
}

impl<O> std::fmt::Debug for EnqueueStream<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnqueueStream").finish_non_exhaustive()
    }
}

/// `EnqueueStreamRequest` with its jobs already encoded.
#[derive(Clone, PartialEq, prost::Message)]
struct FrameOut {
    #[prost(int64, tag = "1")]
    seq: i64,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    jobs: Vec<Bytes>,
}

/// Items that travel together, and those that nobody will send, in their places.
#[derive(Default)]
struct Frame {
    /// On the current stream; 0 = not sent on it.
    seq: i64,
    jobs: Vec<Bytes>,
    bytes: usize,
    /// One per item: None = one of `jobs`.
    items: Vec<Option<Error>>,
}

struct Pump {
    client: Client,
    edits: Vec<Edit>,
    drafts: Fuse<ReadyChunks<BoxStream<'static, Draft>>>,
    exhausted: bool,
    /// Not acknowledged: first those that were sent, then those that wait for room.
    frames: VecDeque<Frame>,
    sent: usize,
    room: usize,
    line: Option<Line>,
    answers: VecDeque<Result<String, Error>>,
    /// Whose trace the jobs belong to.
    current: Current,
}

struct Line {
    frames: mpsc::UnboundedSender<FrameOut>,
    answers: Incoming<pb::EnqueueStreamResponse>,
    seq: i64,
    reconnect_delay: Option<std::time::Duration>,
}

impl Pump {
    fn new(client: Client, drafts: BoxStream<'static, Draft>, edits: Vec<Edit>) -> Self {
        Self {
            client,
            edits,
            drafts: drafts.ready_chunks(JOBS_MAX).fuse(),
            exhausted: false,
            frames: VecDeque::new(),
            sent: 0,
            room: 1,
            line: None,
            answers: VecDeque::new(),
            current: Current::get(),
        }
    }

    async fn next(&mut self) -> Option<Result<String, Error>> {
        let (mut backoff, mut deadline) = (Backoff::streams(), self.client.shared().deadline());
        loop {
            if let Some(answer) = self.answers.pop_front() {
                return Some(answer);
            }
            if self.frames.is_empty() && self.exhausted {
                return None;
            }
            let error = match self.step().await {
                Ok(acknowledged) => {
                    if acknowledged || self.frames.is_empty() {
                        (backoff, deadline) = (Backoff::streams(), self.client.shared().deadline());
                    }
                    continue;
                }
                Err(error) => error,
            };
            self.line = None;
            self.sent = 0;
            if let Err(error) = backoff.pause(error, deadline).await {
                self.give_up(&error);
            }
        }
    }

    /// Sends what there is room for, then waits for an item or an answer. True = something was acknowledged.
    async fn step(&mut self) -> RpcResult<bool> {
        if !self.frames.is_empty() {
            self.send().await?;
        }
        let hungry = !self.exhausted && self.sent == self.frames.len() && self.sent < self.room;
        let answer = async {
            match &mut self.line {
                Some(line) => line.answers.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            answer = answer => match answer {
                Some(answer) => self.acknowledged(answer?),
                None => {
                    let mut error = RpcError::local(Code::Unavailable, "the server ended the stream");
                    error.retry_delay = self.line.as_ref().and_then(|line| line.reconnect_delay);
                    Err(Box::new(error))
                }
            },
            drafts = self.drafts.next(), if hungry => {
                match drafts {
                    Some(drafts) => self.gather(drafts),
                    None => self.exhausted = true,
                }
                Ok(false)
            }
        }
    }

    fn gather(&mut self, drafts: Vec<Draft>) {
        let mut frame = Frame::default();
        for mut draft in drafts {
            for edit in &self.edits {
                edit(&mut draft.options);
            }
            self.current.inject(&mut draft.options.spec);
            match draft.into_bytes() {
                Err(error) => frame.items.push(Some(error)),
                Ok(job) => {
                    if frame.bytes + job.len() > BYTES_MAX && !frame.jobs.is_empty() {
                        self.frames.push_back(std::mem::take(&mut frame));
                    }
                    frame.bytes += job.len();
                    frame.jobs.push(job);
                    frame.items.push(None);
                }
            }
        }
        self.frames.push_back(frame);
    }

    async fn send(&mut self) -> RpcResult<()> {
        if self.line.is_none() {
            let (frames, queued) = mpsc::unbounded_channel();
            let queued =
                futures::stream::unfold(queued, |mut queued| async { queued.recv().await.map(|q| (q, queued)) });
            let answers = self.client.shared().transport.duplex(PATH, queued).await?;
            self.line = Some(Line { frames, answers, seq: 0, reconnect_delay: None });
        }
        let Some(line) = &mut self.line else { return Ok(()) };
        while self.sent < self.frames.len().min(self.room) && line.reconnect_delay.is_none() {
            line.seq += 1;
            let frame = &mut self.frames[self.sent];
            frame.seq = line.seq;
            // Also one without jobs: its answers come in their turn.
            let _ = line.frames.send(FrameOut { seq: line.seq, jobs: frame.jobs.clone() });
            self.sent += 1;
        }
        Ok(())
    }

    fn acknowledged(&mut self, answer: pb::EnqueueStreamResponse) -> RpcResult<bool> {
        let Some(line) = &mut self.line else { return Ok(false) };
        if answer.max_unacked > 0 {
            self.room = answer.max_unacked as usize;
        }
        if let Some(delay) = &answer.reconnect_delay {
            line.reconnect_delay = Some(from_duration(delay));
        }
        let mut ids = answer.job_ids.into_iter();
        let mut errors = answer.errors.into_iter().peekable();
        let before = self.answers.len();
        while self.sent > 0 && self.frames[0].seq <= answer.acked_seq {
            let Some(frame) = self.frames.pop_front() else { break };
            self.sent -= 1;
            let mut index = 0;
            for item in frame.items {
                if let Some(error) = item {
                    self.answers.push_back(Err(error));
                    continue;
                }
                let id = ids.next().unwrap_or_default();
                let refused = errors.next_if(|error| (error.seq, error.index) == (frame.seq, index));
                self.answers.push_back(match refused {
                    Some(error) => Err(RpcError::from_item(error.error.unwrap_or_default()).into()),
                    None => Ok(id),
                });
                index += 1;
            }
        }
        Ok(self.answers.len() > before)
    }

    /// What was not acknowledged is answered with the error; later items are tried afresh.
    fn give_up(&mut self, error: &RpcError) {
        for item in self.frames.drain(..).flat_map(|frame| frame.items) {
            self.answers.push_back(Err(item.unwrap_or_else(|| error.clone().into())));
        }
    }
}
