//! The case is a worker, and whoever else calls the server.
use std::{collections::HashMap, net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::Instant};
use tonic::{Status, client::Grpc, transport::Channel};

use super::{Play, Target, refused};
use crate::{
    case::{Call, Case, Connect, Join, Refusal, ServerStep, Step, ms},
    clients,
    dynamic::{Raw, decode, encode, method},
    pattern::{matches, merge},
    server::{Server, Store},
    stream::Stream,
};

const PAUSE: Duration = Duration::from_millis(15);

/// Plays a case against the server at `shared`, or against one of its own on a new `store` if it asks for that.
///
/// # Errors
/// Says what was expected and what happened instead.
pub async fn play(case: &Case, shared: SocketAddr, store: Store) -> Result<(), String> {
    let own = case.server.as_ref().map(|flags| {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let mut server = tokio::task::block_in_place(|| Server::start(store, &flags));
        case.allow_log.iter().for_each(|text| server.allow(text));
        server
    });
    let address = own.as_ref().map_or(shared, |server| server.address);
    let mut play = Play::new();
    // Queues are shared; names are the case's own.
    play.vars
        .insert("q".to_owned(), json!(format!("{}.{}", case.name, &uuid::Uuid::new_v4().simple().to_string()[..8])));
    for n in 1..=4 {
        play.vars.insert(format!("uuid7.{n}"), json!(uuid::Uuid::now_v7().to_string()));
        play.vars.insert(format!("uuid4.{n}"), json!(uuid::Uuid::new_v4().to_string()));
    }
    play.run(case, &mut RealServer { address, own, channel: clients::channel(address), background: HashMap::new() })
        .await
}

/// What a call gave, or why it could not be made.
type Answered = Result<Result<Value, Status>, String>;

struct RealServer {
    address: SocketAddr,
    own: Option<Server>,
    /// For unary calls; every stream has a connection of its own.
    channel: Channel,
    background: HashMap<String, JoinHandle<Answered>>,
}

impl Target for RealServer {
    async fn step(&mut self, play: &mut Play, step: &Step) -> Result<(), String> {
        match step {
            Step::Connect(connect) => self.connect(play, connect).await,
            Step::Call(call) => self.call(play, call).await,
            Step::Join(join) => self.join(play, join).await,
            Step::HalfClose(on) => {
                play.stream(&on.on)?.half_close();
                Ok(())
            }
            Step::Server(what) => self.server(play, *what),
            other => Err(format!("not a step of this direction: {other:?}")),
        }
    }

    fn finish(&mut self) -> Result<(), String> {
        let bad = self.own.as_mut().map(Server::bad_lines).unwrap_or_default();
        if bad.is_empty() { Ok(()) } else { Err(format!("the server complained:\n{}", bad.join("\n"))) }
    }
}

impl RealServer {
    async fn connect(&mut self, play: &mut Play, connect: &Connect) -> Result<(), String> {
        let mut stream = Stream::open(self.address, &connect.on, play.transcript.clone()).await;
        if let Some(frame) = &connect.frame {
            stream.send(&play.fill(frame)?)?;
            play.streams.insert(connect.on.clone(), stream);
            return Ok(());
        }
        let standard = json!({
            "sessionId": "${session}", "workerId": "conformance", "types": ["${q}"], "capacity": {"slots": 4},
            "info": {"hostname": "conformance", "sdk": "none"}, "revision": 1, "leaseTtl": "10s",
        });
        let hello = play.fill(&merge(&standard, &connect.hello))?;
        stream.send(&json!({"hello": hello}))?;
        let welcome = json!({"welcome": connect.welcome.clone().unwrap_or_else(|| json!({}))});
        play.place_numbers();
        let found = stream.expect(&welcome, &mut play.vars, ms(10_000)).await;
        play.streams.insert(connect.on.clone(), stream);
        found
    }

    async fn call(&mut self, play: &mut Play, call: &Call) -> Result<(), String> {
        let request = play.fill(&call.request)?;
        play.transcript.note(format!("call {} {request}", call.method));
        if let Some(name) = &call.background {
            let (channel, method) = (self.channel.clone(), call.method.clone());
            let task = tokio::spawn(async move { unary(channel, &method, &request).await });
            self.background.insert(name.clone(), task);
            return Ok(());
        }
        let deadline = Instant::now() + ms(call.within_ms);
        let mut before = "did not answer in time".to_owned();
        loop {
            let done = tokio::time::timeout_at(deadline, unary(self.channel.clone(), &call.method, &request)).await;
            let answer = done.map_err(|_| format!("{}: {before}", call.method))??;
            match judge(play, &answer, call.response.as_ref(), call.error.as_ref()) {
                Err(error) if call.until && Instant::now() < deadline => {
                    before = error;
                    tokio::time::sleep(PAUSE).await;
                }
                verdict => {
                    play.transcript.note(format!("  → {}", show(&answer)));
                    return verdict.map_err(|error| format!("{}: {error}", call.method));
                }
            }
        }
    }

    async fn join(&mut self, play: &mut Play, join: &Join) -> Result<(), String> {
        let task = self.background.remove(&join.call).ok_or_else(|| format!("there is no call {}", join.call))?;
        let done = tokio::time::timeout(ms(join.within_ms), task).await;
        let answer = done.map_err(|_| format!("{} did not answer in time", join.call))?.expect("no panic")?;
        play.transcript.note(format!("{} → {}", join.call, show(&answer)));
        judge(play, &answer, join.response.as_ref(), join.error.as_ref())
    }

    fn server(&mut self, play: &Play, what: ServerStep) -> Result<(), String> {
        play.transcript.note(format!("server: {what:?}"));
        let server = self.own.as_mut().ok_or("the case has no server of its own")?;
        tokio::task::block_in_place(|| match what {
            ServerStep::Kill => server.kill(),
            ServerStep::Terminate => server.terminate(),
            ServerStep::Exited => assert!(server.exited().success(), "the server ends well"),
            ServerStep::Start => server.start_again(),
        });
        Ok(())
    }
}

async fn unary(channel: Channel, name: &str, request: &Value) -> Answered {
    let method = method(name)?;
    let request = encode(method.input(), request)?;
    let path = format!("/jobwire.v1.{name}").parse().map_err(|error| format!("{name}: {error}"))?;
    let mut grpc = Grpc::new(channel).max_decoding_message_size(4 << 20);
    if let Err(error) = grpc.ready().await {
        return Ok(Err(Status::unavailable(error.to_string())));
    }
    match grpc.unary(tonic::Request::new(request), path, Raw).await {
        Ok(response) => decode(method.output(), response.into_inner(), true).map(Ok),
        Err(status) => Ok(Err(status)),
    }
}

fn judge(
    play: &mut Play,
    answer: &Result<Value, Status>,
    response: Option<&Value>,
    error: Option<&Refusal>,
) -> Result<(), String> {
    match (answer, error) {
        (Ok(answer), None) => {
            let nothing = json!({});
            let expected = response.unwrap_or(&nothing);
            if matches(expected, answer, &mut play.vars) {
                return Ok(());
            }
            Err(format!("expected {expected}\ngot {answer}"))
        }
        (Ok(answer), Some(error)) => Err(format!("expected {error:?}, got {answer}")),
        (Err(status), Some(error)) => refused(status, error),
        (Err(status), None) => Err(format!("refused: {status:?}")),
    }
}

fn show(answer: &Result<Value, Status>) -> String {
    match answer {
        Ok(answer) => answer.to_string(),
        Err(status) => format!("{:?} {}", status.code(), status.message()),
    }
}
