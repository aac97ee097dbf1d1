//! One end of a StreamJobs call that follows a script, and the rules that the other end must keep whatever the script.
use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_stream::{StreamExt as _, wrappers::UnboundedReceiverStream};
use tonic::{Code, Status, client::Grpc};

use crate::{
    clients::channel,
    dynamic::{Raw, decode, encode, message},
    inbox::{Direction, Inbox},
    pattern::Vars,
    proxy::Proxy,
};

/// What happened in a case, for the report of a failure. Clones share it.
#[derive(Clone, Debug)]
pub struct Transcript(Arc<Mutex<Vec<String>>>, Instant);

impl Default for Transcript {
    fn default() -> Self {
        Self(Arc::default(), Instant::now())
    }
}

impl Transcript {
    /// Adds a line, with the time since the start of the case. Long ones are cut.
    pub fn note(&self, line: impl AsRef<str>) {
        let short: String = line.as_ref().chars().take(600).collect();
        self.0.lock().expect("no panic in between").push(format!("{:7.3}  {short}", self.1.elapsed().as_secs_f64()));
    }

    /// The last lines.
    pub fn show(&self) -> String {
        let lines = self.0.lock().expect("no panic in between");
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

/// What a stream brings.
#[derive(Debug)]
pub enum Arrived {
    /// A message.
    Frame(Bytes),
    /// The other end half-closed, or ended the call well.
    End,
    /// The call ended with this.
    Failed(Status),
}

/// What a stream is made of.
pub(crate) struct Ends {
    pub out: mpsc::UnboundedSender<Result<Bytes, Status>>,
    pub arrivals: mpsc::UnboundedReceiver<Arrived>,
    pub reading: watch::Sender<bool>,
    pub reader: tokio::task::JoinHandle<()>,
    /// The stream's own connection.
    pub proxy: Option<Proxy>,
}

/// Our end of the stream.
pub struct Stream {
    name: String,
    direction: Direction,
    /// `None` = half-closed, or ended.
    out: Option<mpsc::UnboundedSender<Result<Bytes, Status>>>,
    arrivals: mpsc::UnboundedReceiver<Arrived>,
    transcript: Transcript,
    /// `seq` of the last frame sent and of the last one read.
    pub sent: i64,
    /// `seq` of the last frame read.
    pub read: i64,
    /// What came and was not expected yet.
    pub inbox: Inbox,
    /// How it ended, once it has.
    pub end: Option<Status>,
    /// The first frame read.
    pub first: Value,
    /// As server: heartbeats are answered at once.
    pub answer_heartbeats: bool,
    rules: Rules,
    reading: watch::Sender<bool>,
    proxy: Option<Proxy>,
    /// Keeps the task alive that reads; ends with the stream.
    _reader: tokio_util::task::AbortOnDropHandle<()>,
}

impl Stream {
    /// Opens a worker's stream to the server at `address`, on a connection of its own that can be cut. Frames are sent
    /// without waiting for the response headers.
    pub async fn open(address: SocketAddr, name: &str, transcript: Transcript) -> Self {
        Self::through(Proxy::to(address).await, name, transcript)
    }

    /// [`Stream::open`] by way of a proxy of the caller's.
    pub fn through(proxy: Proxy, name: &str, transcript: Transcript) -> Self {
        let channel = channel(proxy.address);
        let (out, requests) = mpsc::unbounded_channel::<Result<Bytes, Status>>();
        let (arrive, arrivals) = mpsc::unbounded_channel();
        let (reading, may_read) = watch::channel(true);
        let reader = tokio::spawn(async move {
            let requests = UnboundedReceiverStream::new(requests).filter_map(Result::ok);
            let mut grpc = Grpc::new(channel).max_decoding_message_size(4 << 20);
            let path = http::uri::PathAndQuery::from_static("/jobwire.v1.WorkerService/StreamJobs");
            let opened = match grpc.ready().await {
                Ok(()) => grpc.streaming(tonic::Request::new(requests), path, Raw).await,
                Err(error) => Err(Status::unavailable(error.to_string())),
            };
            match opened {
                Ok(response) => forward(response.into_inner(), arrive, may_read).await,
                Err(status) => _ = arrive.send(Arrived::Failed(status)),
            }
        });
        Self::new(name, Direction::FromServer, Ends { out, arrivals, reading, reader, proxy: Some(proxy) }, transcript)
    }

    pub(crate) fn new(name: &str, direction: Direction, ends: Ends, transcript: Transcript) -> Self {
        let Ends { out, arrivals, reading, reader, proxy } = ends;
        Self {
            name: name.to_owned(),
            direction,
            out: Some(out),
            arrivals,
            transcript,
            sent: 0,
            read: 0,
            inbox: Inbox::new(direction),
            end: None,
            first: Value::Null,
            answer_heartbeats: false,
            rules: Rules::default(),
            reading,
            proxy,
            _reader: tokio_util::task::AbortOnDropHandle::new(reader),
        }
    }

    /// Sends a frame. `seq` is the next one, unless the frame says otherwise.
    pub fn send(&mut self, frame: &Value) -> Result<(), String> {
        let mut frame = frame.clone();
        if frame.get("seq").is_none() {
            frame["seq"] = json!(self.sent + 1);
        }
        self.sent = frame["seq"].as_i64().unwrap_or_default();
        let kind = match self.direction {
            Direction::FromServer => "StreamJobsRequest",
            Direction::FromWorker => "StreamJobsResponse",
        };
        let bytes = encode(message(kind), &frame)?;
        self.transcript.note(format!("{} ← {frame}", self.name));
        let full = decode(message(kind), bytes.clone(), true)?;
        match self.direction {
            Direction::FromServer => self.rules.worker_sent(&full),
            Direction::FromWorker => self.rules.server_sent(&full),
        }
        let out = self.out.as_ref().ok_or_else(|| format!("{}: our half is closed", self.name))?;
        // If the other end has gone an expectation will say so.
        let _ = out.send(Ok(bytes));
        Ok(())
    }

    /// Stops, or goes on, reading what the other end sends; unread frames fill its window.
    pub fn reading(&mut self, on: bool) {
        self.transcript.note(format!("{} reading: {on}", self.name));
        self.reading.send_replace(on);
    }

    /// Breaks the connection, if the stream has one of its own.
    pub async fn cut(self) {
        self.transcript.note(format!("{} ✂ cut", self.name));
        // Before the rest is dropped, which would end the stream in good order.
        if let Some(proxy) = &self.proxy {
            proxy.cut().await;
        }
    }

    /// Ends our half.
    pub fn half_close(&mut self) {
        self.transcript.note(format!("{} ← half-close", self.name));
        self.out = None;
    }

    /// Ends the call with a status, as only a server can.
    pub fn fail(&mut self, status: Status) {
        self.transcript.note(format!("{} ← {:?} {}", self.name, status.code(), status.message()));
        if let Some(out) = self.out.take() {
            let _ = out.send(Err(status));
        }
    }

    /// Waits until what `expected` says has come, and takes it out.
    pub async fn expect(&mut self, expected: &Value, vars: &mut Vars, within: Duration) -> Result<(), String> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            self.take_arrived()?;
            if self.inbox.take(expected, vars) {
                return Ok(());
            }
            if !self.arrival(deadline).await? {
                let waiting = self.inbox.show();
                let end = self.end.as_ref().map(|end| format!("; it ended: {end:?}")).unwrap_or_default();
                return Err(format!("{}: expected {expected}\nbut there is only {waiting}{end}", self.name));
            }
        }
    }

    /// Waits until `count` items of `field` have come.
    pub async fn expect_count(&mut self, field: &str, count: usize, within: Duration) -> Result<(), String> {
        let deadline = tokio::time::Instant::now() + within;
        while self.inbox.count(field) < count {
            if !self.arrival(deadline).await? {
                return Err(format!("{}: expected {count} {field}, got {}", self.name, self.inbox.count(field)));
            }
        }
        Ok(())
    }

    /// Waits for the end of the other end's half.
    pub async fn expect_end(&mut self, within: Duration) -> Result<Status, String> {
        let deadline = tokio::time::Instant::now() + within;
        while self.end.is_none() {
            if !self.arrival(deadline).await? {
                return Err(format!("{}: the stream goes on", self.name));
            }
        }
        Ok(self.end.clone().expect("just seen"))
    }

    /// Takes in what has arrived already.
    pub fn take_arrived(&mut self) -> Result<(), String> {
        while let Ok(arrived) = self.arrivals.try_recv() {
            self.on(arrived)?;
        }
        Ok(())
    }

    /// Waits for one arrival; false = the time is up, or nothing can come any more.
    async fn arrival(&mut self, deadline: tokio::time::Instant) -> Result<bool, String> {
        if self.end.is_some() {
            return Ok(false);
        }
        match tokio::time::timeout_at(deadline, self.arrivals.recv()).await {
            Ok(Some(arrived)) => self.on(arrived).map(|()| true),
            Ok(None) => Ok(false),
            Err(_) => Ok(false),
        }
    }

    fn on(&mut self, arrived: Arrived) -> Result<(), String> {
        let bytes = match arrived {
            Arrived::Frame(bytes) => bytes,
            Arrived::End => {
                self.transcript.note(format!("{} → end", self.name));
                self.end = Some(Status::new(Code::Ok, ""));
                return Ok(());
            }
            Arrived::Failed(status) => {
                self.transcript.note(format!("{} → {:?} {}", self.name, status.code(), status.message()));
                self.end = Some(status);
                return Ok(());
            }
        };
        let kind = match self.direction {
            Direction::FromServer => "StreamJobsResponse",
            Direction::FromWorker => "StreamJobsRequest",
        };
        self.transcript.note(format!("{} → {}", self.name, decode(message(kind), bytes.clone(), false)?));
        let frame = decode(message(kind), bytes, true)?;
        let seq = frame["seq"].as_i64().unwrap_or_default();
        if seq != self.read + 1 {
            return Err(format!("{}: frame {seq} came after frame {}", self.name, self.read));
        }
        self.read = seq;
        let verdict = match self.direction {
            Direction::FromServer => self.rules.server_says(&frame, self.sent),
            Direction::FromWorker => self.rules.worker_says(&frame, self.sent),
        };
        verdict.map_err(|broken| format!("{}: {broken} (frame {seq})", self.name))?;
        self.inbox.push(&frame);
        if seq == 1 {
            self.first = frame.clone();
        }
        if self.answer_heartbeats && !frame["heartbeat"].is_null() && self.out.is_some() {
            self.send(&json!({"heartbeatAck": {"heartbeatSeq": seq}}))?;
        }
        Ok(())
    }
}

/// Hands what a call brings to a stream, up to its end.
pub(crate) async fn forward(
    mut inbound: tonic::Streaming<Bytes>,
    arrive: mpsc::UnboundedSender<Arrived>,
    mut may_read: watch::Receiver<bool>,
) {
    while may_read.wait_for(|on| *on).await.is_ok() {
        let (arrived, last) = match inbound.message().await {
            Ok(Some(bytes)) => (Arrived::Frame(bytes), false),
            Ok(None) => (Arrived::End, true),
            Err(status) => (Arrived::Failed(status), true),
        };
        if arrive.send(arrived).is_err() || last {
            return;
        }
    }
}

/// What must hold on every stream, in every case.
#[derive(Debug, Default)]
struct Rules {
    welcomed: bool,
    /// The window: what the worker asked for last and before that; a change may not have been read yet.
    slots: [i64; 2],
    granted: i64,
    /// Tokens in hand, with the response frame that carried them (0 = named in Hello).
    held: HashMap<String, i64>,
    /// Tokens of outcomes sent, with the request frame that carried them.
    reported: HashMap<String, i64>,
    received: i64,
    acked: i64,
    heartbeat: i64,
    known: HashSet<String>,
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn token(item: &Value) -> String {
    item["leaseToken"].as_str().unwrap_or_default().to_owned()
}

impl Rules {
    // A scripted worker and the real server.

    fn worker_sent(&mut self, frame: &Value) {
        let seq = frame["seq"].as_i64().unwrap_or_default();
        let hello = &frame["hello"];
        self.held.extend(items(&hello["held"]).map(|held| (token(held), 0)));
        for capacity in [&hello["capacity"], &frame["capacity"]].into_iter().filter(|capacity| !capacity.is_null()) {
            self.slots = [self.slots[1], capacity["slots"].as_i64().unwrap_or_default()];
        }
        self.received = self.received.max(frame["receivedSeq"].as_i64().unwrap_or_default());
        for outcome in items(&frame["outcomes"]) {
            self.held.remove(&token(outcome));
            self.reported.insert(token(outcome), seq);
        }
        if !frame["heartbeat"].is_null() {
            let named: HashSet<&str> = texts(&frame["heartbeat"]["held"]).collect();
            let received = self.received;
            self.held.retain(|token, frame| named.contains(token.as_str()) || *frame > received);
            self.heartbeat = seq;
        }
    }

    fn server_says(&mut self, frame: &Value, sent: i64) -> Result<(), String> {
        let welcome = &frame["welcome"];
        if welcome.is_null() == (frame["seq"] == 1) {
            return Err("welcome goes with the first frame, and with no other".to_owned());
        }
        if !welcome.is_null() {
            self.granted = welcome["slots"].as_i64().unwrap_or_default();
            for gone in texts(&welcome["lost"]).chain(texts(&welcome["settled"])) {
                self.held.remove(gone);
            }
        }
        for rejection in items(&frame["rejections"]) {
            let token = token(rejection);
            let Some(seq) = self.reported.get(&token) else {
                return Err(format!("W3: {token} was rejected, but its outcome was never sent"));
            };
            if *seq <= self.acked {
                return Err(format!("W3: the rejection of {token} came after the ack of its frame {seq}"));
            }
            // The lease stays valid, and is in hand again.
            if matches!(rejection["reason"].as_str(), Some("REJECTION_REASON_INVALID" | "REJECTION_REASON_UNSUPPORTED"))
            {
                self.held.insert(token, frame["seq"].as_i64().unwrap_or_default());
            }
        }
        let acked = frame["ackedSeq"].as_i64().unwrap_or_default();
        if acked > sent || (acked > 0 && acked <= self.acked) {
            return Err(format!("W3: acked_seq {acked} after {} of {sent} sent", self.acked));
        }
        self.acked = self.acked.max(acked);
        if !frame["heartbeatAck"].is_null() && frame["heartbeatAck"]["heartbeatSeq"].as_i64() > Some(self.heartbeat) {
            return Err("an answer to a heartbeat that was never sent".to_owned());
        }
        for job in items(&frame["jobs"]) {
            self.held.insert(token(job), frame["seq"].as_i64().unwrap_or_default());
        }
        let most = self.slots[0].max(self.slots[1]).min(self.granted.max(self.slots[1]));
        if items(&frame["jobs"]).next().is_some() && self.held.len() as i64 > most {
            return Err(format!("W1: {} leases in a window of {most}", self.held.len()));
        }
        Ok(())
    }

    // A scripted server and the worker of an SDK.

    fn server_sent(&mut self, frame: &Value) {
        if !frame["welcome"].is_null() {
            self.welcomed = true;
        }
        for job in items(&frame["jobs"]) {
            // Handed out anew: whatever was reported of it is another lease.
            self.known.insert(token(job));
        }
        for rejection in items(&frame["rejections"]) {
            self.reported.remove(&token(rejection));
        }
    }

    fn worker_says(&mut self, frame: &Value, sent: i64) -> Result<(), String> {
        let hello = &frame["hello"];
        if hello.is_null() == (frame["seq"] == 1) {
            return Err("hello goes with the first frame, and with no other".to_owned());
        }
        self.known.extend(items(&hello["held"]).map(token));
        let received = frame["receivedSeq"].as_i64().unwrap_or_default();
        if received > sent {
            return Err(format!("received_seq {received}, but only {sent} were sent"));
        }
        if !self.welcomed && frame["seq"] != 1 {
            return Err("a frame before the welcome".to_owned());
        }
        for outcome in items(&frame["outcomes"]) {
            let token = token(outcome);
            if !self.known.contains(&token) {
                return Err(format!("an outcome of {token}, which was never in hand"));
            }
            if self.reported.insert(token.clone(), frame["seq"].as_i64().unwrap_or_default()).is_some() {
                return Err(format!("two outcomes of {token} on one stream"));
            }
        }
        if frame["outcomes"].as_array().is_some_and(|outcomes| outcomes.len() > 1_000) {
            return Err("more than 1,000 outcomes in a frame".to_owned());
        }
        for named in texts(&frame["heartbeat"]["held"]) {
            if self.reported.contains_key(named) {
                return Err(format!("W6: a heartbeat names {named}, whose outcome was sent"));
            }
            if !self.known.contains(named) {
                return Err(format!("W6: a heartbeat names {named}, which was never in hand"));
            }
        }
        Ok(())
    }
}
