//! The producer on the Rust SDK. Bodies are raw JSON, so that integers of any size pass.
use std::{str::FromStr as _, sync::Mutex, time::Duration};

use futures::StreamExt as _;
use jobwire::{Client, Code, Enqueue, Error as SdkError, Job, JobEvent, JobState, OnConflict, Retry, Unique};
use jobwire_tests::exact::Exact;
use serde_json::value::RawValue;
use tokio::{runtime::Runtime, sync::Notify};

use crate::{
    producer,
    scene::{Enqueued, Error, Options, Progress, Saw, Scene, Status},
};

type Body = Box<RawValue>;
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Own {
    runtime: Runtime,
    client: Client,
}

impl Own {
    pub fn new(url: &str) -> Self {
        Self { runtime: Runtime::new().expect("threads"), client: Client::connect(url).expect("a good URL") }
    }

    pub fn play(&self, scene: &Scene) -> Result<Saw, String> {
        let saw =
            self.runtime.block_on(async { tokio::time::timeout(producer::PATIENCE, play(&self.client, scene)).await });
        saw.map_err(|_| "it takes too long".to_owned())?.map_err(|error| format!("{error:?}"))
    }
}

async fn play(client: &Client, scene: &Scene) -> Result<Saw, SdkError> {
    let mut saw = Saw::default();
    let mut last = None;
    for payload in &scene.payloads {
        let body = RawValue::from_string(payload.text()).expect("JSON");
        saw.enqueued.push(match with(client.enqueue_raw(scene.r#type, &body), &scene.options).await {
            Ok(job) => {
                let job: Job<Body> = job.typed();
                let status = job.enqueue_status().map(|status| format!("{status:?}").to_lowercase());
                let id = last.insert(job).id().to_owned();
                Enqueued { id, status: status.unwrap_or_default(), error: None }
            }
            Err(error) => Enqueued { error: Some(error_of(error)), ..Enqueued::default() },
        });
    }
    let job = last.expect("a job was taken");
    let (begun, running, saw) = (Notify::new(), Notify::new(), Mutex::new(saw));
    let follow = async {
        let mut events = job.events();
        while let Some(event) = events.next().await {
            note(event?, &running, &mut saw.lock().expect("no panic in between"));
            begun.notify_one();
        }
        Ok::<(), SdkError>(())
    };
    let act = async {
        begun.notified().await;
        if scene.hurry {
            job.retry().await?;
        }
        if let Some(reason) = scene.cancel {
            running.notified().await;
            job.cancel(reason, None).await?;
        }
        Ok(job.result().timeout(PATIENCE).await)
    };
    let ((), ended) = tokio::try_join!(follow, act)?;
    let mut saw = saw.into_inner().expect("no panic in between");
    match ended {
        Ok(body) => saw.result = Some(Exact::parse(body.get()).expect("JSON")),
        Err(error) => saw.error = Some(error_of(error)),
    }
    let status = job.status().await?;
    saw.status = Some(Status {
        state: name(status.state),
        attempt: status.attempt,
        delivery: status.delivery,
        crashes: status.crashes,
    });
    Ok(saw)
}

/// As the other languages spell it.
fn name(state: JobState) -> String {
    state.to_string().to_lowercase()
}

fn note(event: JobEvent, running: &Notify, saw: &mut Saw) {
    match event {
        JobEvent::State(job) => {
            if job.state == JobState::Running {
                running.notify_one();
            }
            saw.states.push(name(job.state));
        }
        JobEvent::Progress(progress) => saw.progress.push(Progress {
            percent: progress.percent,
            current: progress.current,
            total: progress.total,
            message: progress.message,
            data: Exact::parse(&progress.data.to_string()).ok(),
        }),
        JobEvent::Log(line) => saw.logs.push((format!("{:?}", line.level).to_lowercase(), line.message)),
        _ => saw.states.push("an event from the future".to_owned()),
    }
}

fn error_of(error: SdkError) -> Error {
    let mut seen = Error { message: error.to_string(), ..Error::default() };
    seen.class = match &error {
        SdkError::JobFailed { failure, .. } => {
            seen.message.clone_from(&failure.message);
            seen.kind = format!("{:?}", failure.kind).to_lowercase();
            seen.r#type.clone_from(&failure.r#type);
            "JobFailed"
        }
        SdkError::JobCancelled { .. } => "JobCancelled",
        SdkError::JobExpired { .. } => "JobExpired",
        error if error.code() == Some(Code::AlreadyExists) => {
            seen.job_id = error.metadata().and_then(|all| all.get("job_id")).cloned().unwrap_or_default();
            "AlreadyExists"
        }
        _ => "another",
    }
    .to_owned();
    seen
}

fn with<O>(mut job: Enqueue<O>, options: &Options) -> Enqueue<O> {
    job = job.queue(options.queue);
    if let Some(delay) = options.delay {
        job = job.delay(span(delay));
    }
    if let Some(timeout) = options.timeout {
        job = job.timeout(span(timeout));
    }
    if let Some(retry) = options.retry {
        job = job.retry(Retry::exponential(retry.max_attempts, span(retry.initial_delay)));
    }
    if let Some(unique) = &options.unique {
        let action = match unique.on_conflict {
            "keep" => OnConflict::Keep,
            "reject" => OnConflict::Reject,
            "replace" => OnConflict::Replace,
            other => panic!("{other}?"),
        };
        job = job.unique(Unique::key(&unique.key).on_conflict(action));
    }
    if let Some(key) = &options.idempotency_key {
        job = job.idempotency_key(key);
    }
    for tag in &options.tags {
        job = job.tag(*tag);
    }
    for (name, value) in &options.headers {
        job = job.header(name, value.as_str().expect("a string"));
    }
    job
}

/// `300ms`, `2s` or `10m`.
fn span(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).expect("a unit"));
    let unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        other => panic!("{other}?"),
    };
    Duration::from_millis(u64::from_str(number).expect("a number") * unit)
}
