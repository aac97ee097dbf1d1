//! The fake and inline: the rules they share with a server, and the clock that tests move.

use std::sync::{Arc, Mutex};

use futures::StreamExt;
use jobwire::prelude::*;
use jobwire::testing::{Fake, fake, inline};
use jobwire::{Code, EnqueueStatus, JobEvent, JobState, OnConflict, Progress, Throttle, Unique, UniqueScope};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Mail {
    to: String,
}

impl Task for Mail {
    const TYPE: &'static str = "email.send";
    type Output = String;
    fn options() -> Options {
        Options::new().queue("mail")
    }
}

#[derive(Serialize, Deserialize)]
struct Audit {
    of: String,
}

impl Task for Audit {
    const TYPE: &'static str = "audit";
    type Output = ();
}

#[derive(Serialize, Deserialize)]
struct Campaign {
    to: String,
}

impl Task for Campaign {
    const TYPE: &'static str = "campaign";
    type Output = ();
}

async fn audit(_: Ctx<Audit>) -> Result<(), JobError> {
    Ok(())
}

type Log = Arc<Mutex<Vec<String>>>;

fn mail(to: &str) -> Mail {
    Mail { to: to.to_owned() }
}

/// What a mail does is in its address.
async fn send(ctx: Ctx<Mail>, State(log): State<Log>) -> Result<String, JobError> {
    let to = ctx.input().to.clone();
    log.lock().expect("no panic").push(to.clone());
    ctx.enqueue(Audit { of: to.clone() }).on_success()?;
    match (to.as_str(), ctx.attempt()) {
        ("flaky", 1..=2) => Err(JobError::new("no route")),
        ("busy", 1) => Err(JobError::retry_after(mins(7), "429")),
        ("later", _) if ctx.delivery() == 1 => Err(JobError::snooze(hours(1)).throttle(Throttle::Job)),
        ("nobody", _) => Err(JobError::non_retryable("no such address")),
        ("saved", attempt) => {
            let before: Option<i32> = ctx.checkpoint()?;
            ctx.save_checkpoint(&attempt)?;
            ctx.report(Progress::counts(1, 2));
            ctx.log(jobwire::LogLevel::Info, "a line");
            before.map(|step| format!("after {step}")).ok_or_else(|| JobError::new("again"))
        }
        _ => Ok(format!("sent to {to}")),
    }
}

fn with_handlers(fake: Fake) -> (Fake, Client, Log) {
    let log = Log::default();
    let fake = fake.handlers(|worker| worker.state(log.clone()).handle(send));
    let client = fake.client();
    (fake, client, log)
}

#[tokio::test]
async fn enqueues_are_recorded_and_asserted() {
    let fake = fake();
    let client = fake.client();
    let job = client.enqueue(mail("ada")).delay(mins(10)).priority(2).await.expect("a job");
    client.enqueue_many([mail("bob"), mail("eve")]).await;
    let all = fake.enqueued();
    assert_eq!((all[0].id.as_str(), all[0].r#type.as_str(), all[0].queue.as_str()), (job.id(), "email.send", "mail"));
    assert_eq!(all[0].input::<Mail>(), mail("ada"));
    assert_eq!(all[0].due, fake.now() + mins(10));
    assert_eq!(all[0].options, Mail::options().delay(mins(10)).priority(2));
    fake.assert_enqueued_times::<Mail>(3);
    fake.assert_enqueued_times::<Audit>(0);
    assert_eq!(fake.assert_enqueued_with(&mail("eve"))[0].id, all[2].id);
    assert_eq!(fake.assert_enqueued::<Mail>().len(), 3);
    fake.clear();
    assert!(fake.enqueued().is_empty());
}

#[test]
#[should_panic(expected = "no audit was enqueued, but nothing")]
fn an_assertion_says_what_was_enqueued_instead() {
    fake().assert_enqueued::<Audit>();
}

#[tokio::test]
async fn the_clock_runs_what_comes_due_with_retries_and_snoozes() {
    let (fake, client, log) = with_handlers(fake());
    let retry = || Retry::exponential(3, mins(1));
    let flaky = client.enqueue(mail("flaky")).retry(retry()).await.expect("a job");
    let busy = client.enqueue(mail("busy")).retry(retry()).await.expect("a job");
    let later = client.enqueue(mail("later")).await.expect("a job");
    fake.run().await;
    assert_eq!(*log.lock().expect("no panic"), ["flaky", "busy", "later"]);
    assert_eq!(flaky.status().await.expect("a record").state, JobState::Retrying);
    fake.advance(mins(1)).await;
    fake.advance(mins(2) - millis(1)).await;
    assert_eq!(log.lock().expect("no panic").len(), 4, "the second delay is twice the first");
    fake.advance(millis(1)).await;
    assert_eq!(flaky.result().await.expect("sent"), "sent to flaky");
    fake.advance(hours(1)).await;
    assert_eq!(busy.result().await.expect("sent"), "sent to busy");
    assert_eq!(later.result().await.expect("sent"), "sent to later");
    assert_eq!(log.lock().expect("no panic")[5..], ["busy", "later"]);
    let info = later.status().await.expect("a record");
    assert_eq!((info.attempt, info.delivery), (0, 2), "a snooze uses no attempt");
    fake.assert_enqueued_times::<Audit>(3);
}

#[tokio::test]
async fn attempts_run_out_and_failures_have_a_reason() {
    let (fake, client, _) = with_handlers(fake());
    let flaky = client.enqueue(mail("flaky")).retry(Retry::delays([secs(1)])).await.expect("a job");
    let nobody = client.enqueue(mail("nobody")).await.expect("a job");
    let listed = client.enqueue(mail("flaky")).retry(Retry::attempts(9).non_retryable("Job*")).await.expect("a job");
    fake.advance(hours(10)).await;
    for (job, message) in [(flaky, "no route"), (nobody, "no such address"), (listed, "no route")] {
        match job.result().await.expect_err("dead") {
            Error::JobFailed { state: JobState::Dead, failure, .. } => assert_eq!(failure.message, message),
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn keys_mean_what_they_mean_on_a_server() {
    let fake = fake();
    let client = fake.client();
    let first = client.enqueue(mail("first")).delay(hours(1)).unique("k").await.expect("a job");
    let second = |action| client.enqueue(mail("second")).unique(Unique::key("k").on_conflict(action)).into_future();
    assert_eq!(second(OnConflict::Keep).await.expect("kept").enqueue_status(), Some(EnqueueStatus::Kept));
    let error = second(OnConflict::Reject).await.expect_err("taken");
    assert_eq!((error.reason(), error.existing_job_id()), ("UNIQUE_CONFLICT", Some(first.id())));
    assert_eq!(second(OnConflict::Replace).await.expect("replaced").id(), first.id());
    assert_eq!(fake.enqueued()[0].input::<Mail>(), mail("second"));
    let timed = || client.enqueue(mail("x")).unique(Unique::key("t").scope(UniqueScope::For(mins(5)))).into_future();
    let one = timed().await.expect("a job");
    assert_eq!(timed().await.expect("the first").id(), one.id());
    fake.advance(mins(5)).await;
    assert_ne!(timed().await.expect("a second").id(), one.id());
    let order = || client.enqueue(mail("y")).idempotency_key("order-7").into_future();
    let one = order().await.expect("a job");
    assert_eq!(order().await.expect("the first").enqueue_status(), Some(EnqueueStatus::Duplicate));
    fake.advance(hours(24)).await;
    assert_ne!(order().await.expect("a second").id(), one.id());
}

#[tokio::test]
async fn jobs_expire_are_cancelled_and_are_retried() {
    let (fake, client, log) = with_handlers(fake());
    let expired = client.enqueue(mail("ada")).ttl(mins(1)).await.expect("a job");
    let cancelled = client.enqueue(mail("bob")).delay(mins(9)).await.expect("a job");
    let dead = client.enqueue(mail("nobody")).delay(mins(3)).await.expect("a job");
    cancelled.cancel("user left", None).await.expect("cancelled");
    let first = client.enqueue(mail("low")).delay(mins(4)).priority(-1).await.expect("a job");
    client.enqueue(mail("high")).delay(mins(4)).priority(1).await.expect("a job");
    // Without handlers time passes them by.
    let idle = jobwire::testing::fake();
    let waiting = idle.client().enqueue(mail("ada")).ttl(mins(1)).await.expect("a job");
    idle.advance(mins(2)).await;
    assert!(matches!(waiting.result().await, Err(Error::JobExpired { .. })));
    fake.advance(hours(1)).await;
    assert_eq!(*log.lock().expect("no panic"), ["ada", "nobody", "high", "low"]);
    assert_eq!(expired.result().await.expect("in time"), "sent to ada");
    assert!(matches!(cancelled.result().await, Err(Error::JobCancelled { message, .. }) if message == "user left"));
    assert!(first.result().await.is_ok());
    dead.retry().await.expect("once more");
    assert_eq!(dead.status().await.expect("a record").state, JobState::Ready);
    let error = client.job("nobody-knows").retry().await.expect_err("unknown");
    assert_eq!(error.code(), Some(Code::NotFound));
}

#[tokio::test]
async fn checkpoints_progress_logs_and_events_are_kept() {
    let (fake, client, _) = with_handlers(fake());
    let job = client.enqueue(mail("saved")).await.expect("a job");
    fake.advance(secs(1)).await;
    assert_eq!(job.result().await.expect("sent"), "after 1");
    let events: Vec<_> = job.events().map(|event| event.expect("an event")).collect().await;
    assert_eq!(events.iter().filter(|event| matches!(event, JobEvent::Log(_))).count(), 2);
    assert!(events.iter().any(|event| matches!(event, JobEvent::Progress(progress) if progress.current == 1)));
    assert!(matches!(events.last(), Some(JobEvent::State(job)) if job.state == JobState::Succeeded));
}

#[tokio::test]
async fn streams_come_to_the_fake_as_well() {
    let (fake, client, _) = with_handlers(fake());
    let jobs: Vec<_> = client.enqueue_stream(futures::stream::iter([mail("ada"), mail("bob")])).collect().await;
    fake.run().await;
    for job in jobs {
        job.expect("a job").result().await.expect("sent");
    }
    assert_eq!(
        client.run(mail("x")).wait(millis(20)).await.expect_err("nobody runs it").code(),
        Some(Code::DeadlineExceeded)
    );
}

#[tokio::test]
async fn inline_has_the_result_at_once() {
    let (inline, client, log) = with_handlers(inline());
    let job = client.enqueue(mail("ada")).delay(hours(1)).await.expect("a job");
    assert_eq!(log.lock().expect("no panic").len(), 1);
    assert_eq!(job.result().await.expect("sent"), "sent to ada");
    assert_eq!(client.run(mail("bob")).await.expect("sent"), "sent to bob");
    for (to, message) in [("flaky", "no route"), ("later", "fake() has a clock")] {
        match client.run(mail(to)).await.expect_err("the first failure is final") {
            Error::JobFailed { failure, .. } => assert!(failure.message.contains(message), "{failure}"),
            other => panic!("{other}"),
        }
    }
    inline.assert_enqueued_times::<Mail>(4);
    let error = client.enqueue(Campaign { to: "x".into() }).await.expect_err("no handler");
    assert!(error.to_string().contains("campaign"), "{error}");
}

#[tokio::test]
async fn an_inline_handler_may_enqueue_and_wait() {
    async fn outer(ctx: Ctx<Campaign>, State(client): State<Client>) -> Result<(), JobError> {
        client.run(mail(&ctx.input().to)).await?;
        Ok(())
    }
    let log = Log::default();
    let inline = inline();
    let client = inline.client();
    let states = (log.clone(), client.clone());
    let inline =
        inline.handlers(|worker| worker.state(states.0).state(states.1).handle(send).handle(outer).handle(audit));
    client.run(Campaign { to: "ada".into() }).await.expect("done");
    inline.assert_enqueued_with(&mail("ada"));
    inline.assert_enqueued_times::<Audit>(1);
    let refused = Worker::builder(client).handle_raw("x", |ctx| async move { Ok(ctx.payload().clone()) }).run().await;
    assert!(refused.expect_err("no server").to_string().contains("Fake::handlers"));
}

#[tokio::test]
async fn children_are_in_the_trace_of_their_parent() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let fake = fake();
    let client = fake.client();
    let inner = client.clone();
    let fake = fake.handlers(|worker| {
        worker.handle_raw("parent", move |ctx| {
            let client = inner.clone();
            async move {
                ctx.enqueue(mail("with the outcome")).on_success()?;
                client.enqueue(mail("by a client")).await?;
                client.enqueue(mail("elsewhere")).header("traceparent", "00-1-1-01").await?;
                for job in client.enqueue_many([mail("one of many")]).await {
                    job?;
                }
                Ok(jobwire::Payload::default())
            }
        })
    });
    let headers = [("traceparent", TRACE), ("tracestate", "a=b"), ("request-id", "r-1")];
    let parent = client.enqueue_raw("parent", &serde_json::json!({}));
    headers.iter().fold(parent, |parent, (key, value)| parent.header(*key, *value)).await.expect("a job");
    fake.run().await;
    for to in ["with the outcome", "by a client", "one of many"] {
        let same = Mail::options().header("traceparent", TRACE).header("tracestate", "a=b");
        assert_eq!(fake.assert_enqueued_with(&mail(to))[0].options, same, "{to}");
    }
    let own = Mail::options().header("traceparent", "00-1-1-01");
    assert_eq!(fake.assert_enqueued_with(&mail("elsewhere"))[0].options, own);
}

#[tokio::test]
async fn no_attempt_at_all_is_refused() {
    let client = fake().client();
    for retry in [Retry::from(0), Retry::exponential(0, secs(1)), Retry::delays([secs(1)]).max_attempts(0)] {
        let error = client.enqueue(mail("ada")).retry(retry).await.expect_err("refused");
        assert_eq!((error.code(), error.field()), (Some(Code::InvalidArgument), "job.retry.max_attempts"), "{error}");
        assert!(error.to_string().contains("1 = never retry"), "{error}");
    }
    client.enqueue(mail("ada")).retry(Retry::default().jitter(0.5)).await.expect("attempts as the queue says");
    client.enqueue(mail("ada")).retry(0).retry(2).await.expect("the last one counts");
}
