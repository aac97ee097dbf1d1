//! The case is a server; the other end is the worker of an SDK.
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{Play, Target, code_of};
use crate::{
    case::{Accept, Case, Ended, Step, WorkerStep, ms},
    pattern::{fill, merge},
    process::{Process, Signal},
    scripted_server::ScriptedServer,
    wait::LONG,
    worker::Sdk,
};

/// Processes at once: they start slowly when there are many.
static PROCESSES: Semaphore = Semaphore::const_new(10);
const START: Duration = Duration::from_secs(40);

/// Plays a case against the conformance worker of `sdk`.
///
/// # Errors
/// Says what was expected and what happened instead.
pub async fn play(case: &Case, sdk: Sdk) -> Result<(), String> {
    let _permit = PROCESSES.acquire().await.expect("it is never closed");
    let server = ScriptedServer::start().await;
    let env = case.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let process = sdk.start(&format!("jobwire://{}", server.address()), env);
    let mut worker = Worker { server, process };
    let played = Play::new().run(case, &mut worker).await;
    played.map_err(|error| {
        let said = worker.process.err.lines();
        format!("{error}\nthe worker said:\n{}", said[said.len().saturating_sub(20)..].join("\n"))
    })
}

struct Worker {
    server: ScriptedServer,
    process: Process,
}

impl Target for Worker {
    async fn step(&mut self, play: &mut Play, step: &Step) -> Result<(), String> {
        match step {
            Step::Accept(accept) => self.accept(play, accept).await,
            Step::End(end) => {
                let status = status(end)?;
                let stream = play.stream(&end.on)?;
                if end.code == "OK" {
                    stream.half_close();
                } else {
                    stream.fail(status);
                }
                Ok(())
            }
            Step::Worker(what) => self.worker(play, what).await,
            other => Err(format!("not a step of this direction: {other:?}")),
        }
    }

    async fn cut(&mut self) {
        self.server.cut().await;
    }

    fn finish(&mut self) -> Result<(), String> {
        match self.server.unaccepted() {
            0 => Ok(()),
            more => Err(format!("the worker opened {more} more streams")),
        }
    }
}

impl Worker {
    async fn accept(&mut self, play: &mut Play, accept: &Accept) -> Result<(), String> {
        // A process takes a while to start where everything is tested at once.
        let within = if play.streams.is_empty() { START } else { ms(accept.within_ms) };
        let stream = self.server.accept(&accept.on, play.transcript.clone(), within).await;
        let mut stream = stream.ok_or("the worker opened no stream")?;
        stream.answer_heartbeats = accept.answer_heartbeats;
        let hello = accept.hello.clone().unwrap_or_else(|| json!({}));
        let expected = json!({"hello": hello});
        play.place_numbers();
        stream.expect(&expected, &mut play.vars, ms(10_000)).await?;
        if accept.welcome != Some(Value::Bool(false)) {
            play.vars.insert("slots".to_owned(), stream.first["hello"]["capacity"]["slots"].clone());
            let over = accept.welcome.clone().unwrap_or_else(|| json!({}));
            let welcome = fill(&merge(&standard_welcome(), &over), &play.vars)?;
            stream.send(&json!({"welcome": welcome}))?;
        }
        play.streams.insert(accept.on.clone(), stream);
        Ok(())
    }

    async fn worker(&mut self, play: &Play, what: &WorkerStep) -> Result<(), String> {
        play.transcript.note(format!("worker: {what:?}"));
        let process = &mut self.process;
        match what {
            WorkerStep::Ready => until("it says ready", process, |process| process.out.contains("ready")).await,
            WorkerStep::Terminate => {
                process.signal(Signal::TERM);
                Ok(())
            }
            WorkerStep::Kill => {
                process.kill();
                Ok(())
            }
            WorkerStep::Says(text) => until(text, process, |process| process.err.contains(text)).await,
            WorkerStep::Exited(wanted) => {
                let mut code = None;
                let started = std::time::Instant::now();
                while code.is_none() && started.elapsed() < LONG {
                    code = process.ended().map(|status| status.code());
                    tokio::time::sleep(ms(5)).await;
                }
                let code = code.ok_or("the worker goes on")?;
                let as_wanted = match wanted {
                    Value::String(_) => code.is_some_and(|code| code != 0),
                    number => code.map(i64::from) == number.as_i64(),
                };
                if as_wanted { Ok(()) } else { Err(format!("it exited with {code:?}, not {wanted}")) }
            }
        }
    }
}

async fn until(what: &str, process: &mut Process, holds: impl Fn(&Process) -> bool) -> Result<(), String> {
    let started = std::time::Instant::now();
    while !holds(process) {
        if process.ended().is_some() && !holds(process) {
            return Err(format!("the worker ended; expected: {what}"));
        }
        if started.elapsed() > LONG {
            return Err(format!("not in time: {what}"));
        }
        tokio::time::sleep(ms(5)).await;
    }
    Ok(())
}

fn status(end: &Ended) -> Result<Status, String> {
    let code = code_of(&end.code)?;
    let mut details = ErrorDetails::new();
    if let Some(reason) = &end.reason {
        details.set_error_info(reason, "jobwire.dev", []);
    }
    if let Some(field) = &end.field {
        details.add_bad_request_violation(field, "the script says so");
    }
    Ok(Status::with_error_details(code, "the script says so", details))
}

/// What a case's welcome is laid over. Heartbeats come every second, so that cases need not wait for them.
fn standard_welcome() -> Value {
    json!({
        "slots": "${slots}", "leaseTtl": "30s", "deliveryTtl": "10s", "heartbeatInterval": "1s", "revision": 1,
        "serverId": "scripted", "serverVersion": "0.0.0", "serverTime": "${now}",
        "limits": {
            "maxPayloadBytes": 1 << 20, "maxResultBytes": 1 << 20, "maxCheckpointBytes": 64 << 10, "maxHeaders": 64,
            "maxHeadersBytes": 8 << 10, "maxTags": 16, "maxDependencies": 1000, "maxProgressBytes": 4 << 10,
            "maxLogLineBytes": 8 << 10, "maxLogLines": 10000, "maxMessageBytes": 3 << 20, "maxOutcomes": 1000,
            "maxSlots": 10000, "maxJobsPerCall": 1000, "maxWorkflowCallBytes": 1 << 20, "maxWorkflowNodes": 1000000,
            "maxIds": 1000, "maxFilterBytes": 2 << 10, "maxPageSize": 1000, "maxDelay": "315360000s",
            "maxTimeout": "2592000s",
        },
    })
}
