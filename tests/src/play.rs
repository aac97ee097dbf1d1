//! Plays a case.
use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    case::{Case, Ended, Refusal, Since, Step, ms},
    pattern::{Vars, fill},
    stream::{Stream, Transcript},
};

pub mod against_server;
pub mod against_worker;

/// What a verb does that only one direction has.
trait Target {
    async fn step(&mut self, play: &mut Play, step: &Step) -> Result<(), String>;

    /// What is cut when a stream is.
    async fn cut(&mut self) {}

    /// After the last step.
    fn finish(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// A case under way.
struct Play {
    vars: Vars,
    streams: HashMap<String, Stream>,
    marks: HashMap<String, Instant>,
    transcript: Transcript,
}

impl Play {
    fn new() -> Self {
        let vars = Vars::from([("session".to_owned(), json!(uuid::Uuid::new_v4().to_string()))]);
        Self { vars, streams: HashMap::new(), marks: HashMap::new(), transcript: Transcript::default() }
    }

    /// Runs all steps. An error says what was expected and what happened before.
    async fn run(mut self, case: &Case, target: &mut impl Target) -> Result<(), String> {
        let mut done = self.steps(&case.steps, target).await;
        if done.is_ok() {
            done = self.nothing_is_left(case).and_then(|()| target.finish());
        }
        done.map_err(|error| format!("{} ({})\n{error}\n{}", case.title, case.rule, self.transcript.show()))
    }

    async fn steps(&mut self, steps: &[Step], target: &mut impl Target) -> Result<(), String> {
        for (index, step) in steps.iter().enumerate() {
            let done = match step {
                Step::Each(each) => {
                    let mut done = Ok(());
                    for value in &each.values {
                        self.vars.insert(each.name.clone(), value.clone());
                        done = Box::pin(self.steps(&each.steps, target)).await;
                        if done.is_err() {
                            break;
                        }
                    }
                    done
                }
                step => self.step(step, target).await,
            };
            done.map_err(|error| format!("step {index}: {error}"))?;
        }
        Ok(())
    }

    async fn step(&mut self, step: &Step, target: &mut impl Target) -> Result<(), String> {
        match step {
            Step::Send(send) => {
                let frame = self.fill(&send.frame)?;
                self.stream(&send.on)?.send(&frame)
            }
            Step::Expect(expect) => {
                self.place_numbers();
                let mut vars = std::mem::take(&mut self.vars);
                let found = match self.stream(&expect.on) {
                    Ok(stream) => stream.expect(&expect.frame, &mut vars, ms(expect.within_ms)).await,
                    Err(error) => Err(error),
                };
                self.vars = vars;
                found
            }
            Step::Count(count) => {
                self.stream(&count.on)?.expect_count(&count.field, count.count, ms(count.within_ms)).await
            }
            Step::Absent(absent) => {
                let stream = self.stream(&absent.on)?;
                stream.take_arrived()?;
                match absent.fields.iter().find(|field| stream.inbox.has(field)) {
                    Some(field) => Err(format!("{}: there is {field}: {}", absent.on, stream.inbox.show())),
                    None => Ok(()),
                }
            }
            Step::Forget(forget) => {
                let stream = self.stream(&forget.on)?;
                stream.take_arrived()?;
                forget.fields.iter().for_each(|field| stream.inbox.clear(field));
                Ok(())
            }
            Step::Cut(on) => {
                let stream = self.streams.remove(&on.on).ok_or_else(|| format!("there is no stream {}", on.on))?;
                target.cut().await;
                stream.cut().await;
                Ok(())
            }
            Step::Pause(on) | Step::Resume(on) => {
                let resume = matches!(step, Step::Resume(_));
                self.stream(&on.on)?.reading(resume);
                Ok(())
            }
            Step::Ended(ended) => {
                let status = self.stream(&ended.on)?.expect_end(ms(ended.within_ms)).await?;
                let Ended { code, reason, field, .. } = ended.clone();
                refused(&status, &Refusal { code, reason, field })
            }
            Step::Mark(name) => {
                self.marks.insert(name.clone(), Instant::now());
                Ok(())
            }
            Step::Since(since) => self.since(since),
            Step::Set(values) => {
                for (name, value) in values {
                    let value = self.fill(value)?;
                    self.vars.insert(name.clone(), value);
                }
                Ok(())
            }
            step => target.step(self, step).await,
        }
    }

    fn since(&self, since: &Since) -> Result<(), String> {
        let start = self.marks.get(&since.mark).ok_or_else(|| format!("there is no mark {}", since.mark))?;
        let passed = start.elapsed();
        if passed < ms(since.min_ms) {
            return Err(format!("too early: {passed:?} after {}, not {} ms", since.mark, since.min_ms));
        }
        match since.max_ms {
            Some(most) if passed > ms(most) => Err(format!("too late: {passed:?} after {}, not {most} ms", since.mark)),
            _ => Ok(()),
        }
    }

    fn stream(&mut self, name: &str) -> Result<&mut Stream, String> {
        self.streams.get_mut(name).ok_or_else(|| format!("there is no stream {name}"))
    }

    /// Variables that are always there: `${a.read}`, `${a.sent}` and `${now}`, `${now+60}`, `${now-60}` (RFC 3339).
    fn place_numbers(&mut self) {
        for (name, stream) in &self.streams {
            self.vars.insert(format!("{name}.read"), stream.read.into());
            self.vars.insert(format!("{name}.sent"), stream.sent.into());
        }
        let now = SystemTime::now();
        let minute = Duration::from_secs(60);
        for (name, time) in [("now", now), ("now+60", now + minute), ("now-60", now - minute)] {
            self.vars.insert(name.to_owned(), prost_types::Timestamp::from(time).to_string().into());
        }
    }

    fn fill(&mut self, template: &Value) -> Result<Value, String> {
        self.place_numbers();
        fill(template, &self.vars)
    }

    fn nothing_is_left(&mut self, case: &Case) -> Result<(), String> {
        for (name, stream) in &mut self.streams {
            stream.take_arrived()?;
            case.leftovers.iter().for_each(|field| stream.inbox.clear(field));
            let left = stream.inbox.leftovers();
            if !left.is_empty() {
                return Err(format!("{name}: came and was not expected: {}", left.join("; ")));
            }
        }
        Ok(())
    }
}

/// Whether a status is the refusal that a case expects.
fn refused(status: &Status, expected: &Refusal) -> Result<(), String> {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone());
    let fields =
        details.bad_request().map(|bad| bad.field_violations.iter().map(|v| v.field.clone()).collect::<Vec<_>>());
    let shown = format!("{} {reason:?} {fields:?} {}", code_name(status.code()), status.message());
    let as_expected = (code_name(status.code()) == expected.code || expected.code == "ANY")
        && expected.reason.as_ref().is_none_or(|wanted| reason.as_ref() == Some(wanted))
        && expected.field.as_ref().is_none_or(|wanted| fields.is_some_and(|fields| fields.contains(wanted)));
    if as_expected { Ok(()) } else { Err(format!("expected {expected:?}, got {shown}")) }
}

/// The name of a code as in the gRPC specification.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for c in format!("{code:?}").chars() {
        if c.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

/// The code of this name.
fn code_of(name: &str) -> Result<Code, String> {
    (0..=16).map(Code::from_i32).find(|code| code_name(*code) == name).ok_or_else(|| format!("there is no code {name}"))
}
