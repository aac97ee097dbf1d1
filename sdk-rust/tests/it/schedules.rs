//! Schedules against a real server: the calls, and those that a worker declares.

use std::time::SystemTime;

use futures::TryStreamExt;
use jobwire::prelude::*;
use jobwire::{Cadence, CatchUp, Code, Fold, Gap, Overlap, Selector};
use jobwire_server::testing::{TestServer, server};
use tokio::sync::{mpsc, oneshot};

use crate::script::soon;

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Report {
    kind: String,
}

impl Task for Report {
    const TYPE: &'static str = "report.build";
    type Output = String;
    fn options() -> Options {
        Options::new().queue("reports").timeout(mins(10))
    }
}

fn report(kind: &str) -> Report {
    Report { kind: kind.to_owned() }
}

fn nightly() -> Schedule {
    Schedule::cron("30 2 * * 1-5").time_zone("Europe/Berlin").task(report("sales"))
}

async fn connected() -> (TestServer, Client) {
    let server = server().await;
    let client = Client::connect(server.url()).expect("a client");
    (server, client)
}

#[tokio::test]
async fn a_schedule_comes_back_as_it_was_put() {
    let (_server, client) = connected().await;
    let schedules = client.schedules();
    let start = SystemTime::UNIX_EPOCH + days(30_000);
    let put = schedules
        .put(
            "nightly",
            nightly()
                .start(start)
                .end(start + days(100))
                .jitter(mins(2))
                .overlap(Overlap::BufferOne)
                .catch_up(CatchUp::All)
                .catch_up_window(hours(2))
                .gap(Gap::Skip)
                .fold(Fold::Both)
                .note("for the board")
                .task(report("sales").s().priority(2).tag("night")),
        )
        .await
        .expect("put");
    assert!(put.created);
    let got = schedules.get("nightly").await.expect("a schedule");
    assert_eq!(got.cadence, Cadence::Cron("30 2 * * 1-5".into()));
    assert_eq!((got.time_zone.as_str(), got.start, got.end), ("Europe/Berlin", Some(start), Some(start + days(100))));
    assert_eq!(
        (got.overlap, got.catch_up, got.gap, got.fold),
        (Overlap::BufferOne, CatchUp::All, Gap::Skip, Fold::Both)
    );
    assert_eq!((got.jitter, got.catch_up_window, got.note.as_str()), (mins(2), hours(2), "for the board"));
    assert_eq!((got.r#type.as_str(), got.queue.as_str()), ("report.build", "reports"));
    assert_eq!(got.payload.to::<Report>().expect("its input"), report("sales"));
    assert_eq!(got.next_fire_times.len(), 5);

    let again = schedules.put("nightly", got.schedule()).etag(&got.etag).await.expect("the same");
    assert!(!again.created);
    assert_eq!(again.schedule.etag, got.etag, "nothing has changed");
    let changed = got.schedule().overlap(Overlap::Skip).task(report("stock"));
    let checked = schedules.put("nightly", changed.clone()).validate_only().await.expect("it would do");
    assert_eq!((checked.schedule.overlap, checked.schedule.paused), (Overlap::Skip, false));
    let changed = schedules.put("nightly", changed).await.expect("put");
    assert_eq!(changed.schedule.payload.to::<Report>().expect("its input"), report("stock"));
    let late = schedules.put("nightly", got.schedule()).etag(&got.etag).await.expect_err("somebody was faster");
    assert_eq!((late.code(), late.reason()), (Some(Code::Aborted), "ETAG_MISMATCH"));
}

#[tokio::test]
async fn schedules_are_listed_paused_triggered_filled_and_deleted() {
    let (_server, client) = connected().await;
    let schedules = client.schedules();
    for n in 0..5 {
        schedules.put(format!("hourly-{n}"), Schedule::every(hours(1)).task(report("x"))).await.expect("put");
    }
    schedules.put("nightly", nightly()).await.expect("put");
    let all: Vec<_> = schedules.list("").page_size(2).try_collect().await.expect("schedules");
    let ids: Vec<_> = all.iter().map(|schedule| schedule.id.as_str()).collect();
    assert_eq!(ids, ["hourly-0", "hourly-1", "hourly-2", "hourly-3", "hourly-4", "nightly"]);
    assert_eq!(all[0].cadence, Cadence::Every(hours(1)));

    let paused = schedules.pause(["hourly-0", "hourly-1", "gone"], "moving").await.expect("paused");
    assert_eq!((paused.affected, paused.errors.len()), (2, 1));
    assert_eq!((paused.errors[0].id.as_str(), paused.errors[0].error.reason.as_str()), ("gone", "SCHEDULE_NOT_FOUND"));
    assert!(paused.ok().is_err());
    let standing: Vec<_> = schedules.list("paused = true").try_collect().await.expect("schedules");
    assert_eq!((standing.len(), standing[0].pause_reason.as_str()), (2, "moving"));
    let resumed = schedules.resume(Selector::filter("paused = true")).await.expect("resumed");
    assert_eq!(resumed.affected, 2);

    let job = schedules.trigger("nightly").input(&report("all")).await.expect("a job");
    assert_eq!(job.status().await.expect("a record").payload.to::<Report>().expect("its input"), report("all"));
    let preview = schedules.preview("nightly", 3).await.expect("a preview");
    assert_eq!(
        (preview.fire_times.len(), preview.description.as_str()),
        (3, "At 02:30, Monday to Friday, Europe/Berlin")
    );
    let unput = schedules.preview_of(Schedule::cron("@daily"), 1).await.expect("a preview");
    assert_eq!(unput.fire_times.len(), 1);

    let to = SystemTime::now();
    let dry = schedules.backfill("nightly", to - days(14), to).dry_run().await.expect("counted");
    assert_eq!((dry.ticks, dry.fired, dry.existing), (10, 10, 0));
    let filled = schedules.backfill("nightly", to - days(14), to).overlap(Overlap::Allow).await.expect("run");
    assert_eq!((filled.fired, filled.sample_ids.len()), (10, 10));
    let job = client.job(&filled.sample_ids[0]).status().await.expect("a record");
    assert_eq!((job.queue.as_str(), job.r#type.as_str()), ("reports", "report.build"));

    let counted = schedules.delete(Selector::filter("type = report.build")).await.expect("counted");
    assert_eq!((counted.matched, counted.affected), (6, 0));
    assert_eq!(schedules.delete("nightly").await.expect("deleted").affected, 1);
    let error = schedules.get("nightly").await.expect_err("gone");
    assert_eq!((error.code(), error.reason()), (Some(Code::NotFound), "SCHEDULE_NOT_FOUND"));
    let rest = schedules.delete(Selector::filter("*")).force().await.expect("deleted");
    assert_eq!(rest.affected, 5);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_name() {
    let (_server, client) = connected().await;
    let schedules = client.schedules();
    let error = schedules.put("nightly", Schedule::cron("@daily")).await.expect_err("nothing to enqueue");
    assert_eq!((error.code(), error.field()), (Some(Code::InvalidArgument), "spec.job"));
    let task = |call: jobwire::TaskCall<String>| Schedule::cron("@daily").task(call);
    let cases = [
        ("spec.cron", Schedule::cron("0 0 30 2 *").task(report("x"))),
        ("spec.cron", Schedule::cron("at noon").task(report("x"))),
        ("spec.interval", Schedule::every(millis(10)).task(report("x"))),
        ("spec.time_zone", Schedule::cron("@daily").time_zone("Mars/Olympus").task(report("x"))),
        ("spec.jitter", Schedule::cron("@daily").jitter(days(2)).task(report("x"))),
        ("spec.job.delay", task(report("x").s().delay(secs(1)))),
        ("job.retry.max_attempts", task(report("x").s().retry(0))),
    ];
    for (field, schedule) in cases {
        let error = schedules.put("nightly", schedule).await.expect_err(field);
        assert_eq!((error.code(), error.field()), (Some(Code::InvalidArgument), field), "{error}");
    }
}

/// A worker that says what its schedule made it do.
fn worker(client: &Client) -> (jobwire::WorkerBuilder, mpsc::UnboundedReceiver<(String, Option<SystemTime>)>) {
    let (ran, runs) = mpsc::unbounded_channel();
    let worker = Worker::builder(client.clone()).handle_raw("report.build", move |ctx| {
        let _ = ran.send((ctx.schedule_id().to_owned(), ctx.fire_time()));
        async { Ok(jobwire::Payload::json("built")?) }
    });
    (worker.queue("reports"), runs)
}

#[tokio::test]
async fn a_worker_puts_what_it_declares_before_it_takes_a_job() {
    let (_server, client) = connected().await;
    let (worker, mut runs) = worker(&client);
    let worker = worker.schedule("often", Schedule::every(secs(1)).task(report("x"))).schedule("nightly", nightly());
    let (stop, stopped) = oneshot::channel::<()>();
    let (ready, readied) = oneshot::channel();
    let worker = worker.on_ready(move || ready.send(()).expect("it is awaited"));
    let worker = tokio::spawn(worker.run_until(async { drop(stopped.await) }));
    soon("ready", readied).await.expect("ready");
    let ids: Vec<_> = client.schedules().list("").map_ok(|schedule| schedule.id).try_collect().await.expect("two");
    assert_eq!(ids, ["nightly", "often"]);
    let (id, fire_time) = soon("tick", runs.recv()).await.expect("a run");
    let (_, next) = soon("tick", runs.recv()).await.expect("a run");
    assert_eq!(id, "often");
    assert_eq!(next.expect("a tick").duration_since(fire_time.expect("a tick")).expect("later"), secs(1));
    drop(stop);
    soon("end", worker).await.expect("no panic").expect("drained");
    assert_eq!(client.schedules().delete("often").await.expect("it is still there").affected, 1);
}

#[tokio::test]
async fn a_refused_schedule_stops_the_worker() {
    let (_server, client) = connected().await;
    let job = client.enqueue(report("x")).await.expect("a job");
    let bad = || Schedule::cron("0 0 30 2 *").task(report("x"));
    let error = soon("end", worker(&client).0.schedule("bad", bad()).run()).await.expect_err("refused");
    assert_eq!((error.code(), error.field()), (Some(Code::InvalidArgument), "spec.cron"));
    assert!(error.to_string().contains("schedule bad"), "{error}");
    assert_eq!(job.status().await.expect("a record").delivery, 0, "it took no job");

    let twice = worker(&client).0.schedule("a", nightly()).schedule("a", nightly()).run().await.expect_err("twice");
    assert!(matches!(twice, Error::Config(_)), "{twice}");
    let taskless = worker(&client).0.schedule("a", Schedule::cron("@daily")).run().await.expect_err("no task");
    assert!(taskless.to_string().contains("schedule a") && taskless.to_string().contains(".task("), "{taskless}");

    let (stop, stopped) = oneshot::channel::<()>();
    let worker = worker(&client).0.schedule("bad", bad()).put_schedules(false);
    let worker = tokio::spawn(worker.run_until(async { drop(stopped.await) }));
    soon("result", job.result().into_future()).await.expect("it works all the same");
    drop(stop);
    soon("end", worker).await.expect("no panic").expect("drained");
    assert!(client.schedules().list("").try_collect::<Vec<_>>().await.expect("none").is_empty());
}

#[tokio::test]
async fn a_worker_waits_for_a_server_to_put_its_schedules() {
    let (gone, client) = connected().await;
    let port = gone.url().rsplit(':').next().expect("a port").parse().expect("a number");
    drop(gone);
    let (stopped, _) = worker(&client);
    let ended = stopped.schedule("nightly", nightly()).run_until(std::future::ready(()));
    soon("end", ended).await.expect("told to stop before there was a server");

    let (waiting, _) = worker(&client);
    let (ready, readied) = oneshot::channel();
    let waiting = waiting.schedule("nightly", nightly()).on_ready(move || ready.send(()).expect("it is awaited"));
    let waiting = tokio::spawn(waiting.run_until(std::future::pending()));
    let _server = TestServer::builder().port(port).start().await;
    soon("ready", readied).await.expect("ready");
    assert_eq!(client.schedules().get("nightly").await.expect("a schedule").id, "nightly");
    waiting.abort();
}
