//! Schedules: declared with a worker, and the calls about them.
use std::time::SystemTime;

use futures::TryStreamExt;
use jobwire::prelude::*;
use jobwire::{Overlap, Selector};

#[derive(Serialize, Deserialize)]
struct Report {
    kind: String,
}

impl Task for Report {
    const TYPE: &'static str = "report.build";
    type Output = String;
}

// [handler]
async fn build(ctx: Ctx<Report>) -> Result<String, JobError> {
    let tick = ctx.fire_time().unwrap_or_else(SystemTime::now); // the nominal time, however late it is
    let age = tick.elapsed().unwrap_or_default();
    Ok(format!("{} for {} of {} s ago", ctx.input().kind, ctx.schedule_id(), age.as_secs()))
}
// [/handler]

fn report(kind: &str) -> Report {
    Report { kind: kind.to_owned() }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::from_env()?;
    // [declare]
    let nightly = Schedule::cron("30 2 * * 1-5")
        .time_zone("Europe/Berlin")
        .overlap(Overlap::Skip)
        .task(report("sales").s().timeout(mins(10)));
    let worker = Worker::builder(client.clone())
        .handle(build)
        .schedule("nightly", nightly)
        .schedule("stock", Schedule::every(secs(1)).task(report("stock")));
    // [/declare]
    let (ready, readied) = tokio::sync::oneshot::channel();
    let worker = worker.on_ready(move || ready.send(()).expect("it is awaited"));
    let worker = tokio::spawn(worker.run_until(std::future::pending()));
    readied.await.expect("the server takes the worker");

    // [calls]
    let schedules = client.schedules();
    let put = schedules.put("hourly", Schedule::cron("@hourly").task(report("visits"))).await?;
    println!("created: {}", put.created);
    let preview = schedules.preview("nightly", 3).await?;
    println!("{}: {} times", preview.description, preview.fire_times.len());
    let job = schedules.trigger("nightly").input(&report("everything")).await?; // now, besides its times
    println!("{}", job.result().await?);
    let today = SystemTime::now();
    let missed = schedules.backfill("nightly", today - days(14), today).dry_run().await?;
    println!("{} ticks in two weeks", missed.ticks);
    schedules.pause("nightly", "the warehouse moves").await?;
    let paused: Vec<_> = schedules.list("paused = true").map_ok(|schedule| schedule.id).try_collect().await?;
    println!("paused: {paused:?}");
    schedules.resume(Selector::filter("paused = true")).await?;
    schedules.delete(["hourly", "nightly", "stock"]).await?; // their jobs stay
    // [/calls]
    worker.abort();
    Ok(())
}
