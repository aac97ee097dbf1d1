//! What the calls answer.
use jobwire_proto::v1::{self, schedule_spec::Cadence};
use tonic::Code;

use super::harness::{HOUR, MINUTE, Rig, T0, by_filter, by_ids, cron, every_minute, minutes, refused, span, time};
use crate::on_every_store;

on_every_store!(
    put_twice_changes_nothing,
    a_changed_cadence_counts_from_now,
    lists_are_filtered_and_paged,
    a_pause_lets_ticks_pass,
    deletes_by_filter_count_first,
);

async fn put_twice_changes_nothing(rig: &mut Rig) {
    let first = rig.put("nightly", cron("30 2 * * 1-5", "report")).await;
    assert!(first.created);
    let schedule = first.schedule.expect("it is shown");
    assert_eq!(schedule.next_fire_times.len(), 5);
    rig.advance(5 * MINUTE).await;
    let again = rig.put("nightly", cron("30 2 * * 1-5", "report")).await;
    assert!(!again.created);
    assert_eq!(again.schedule.as_ref(), Some(&schedule));
    assert_eq!(rig.get("nightly").await, schedule);
    // Only a dry run, then a wrong etag, then the right one.
    let mut other = cron("30 2 * * 1-5", "report");
    other.note = "for people".into();
    let put = |etag: &str, validate_only| v1::PutScheduleRequest {
        id: "nightly".into(),
        spec: Some(other.clone()),
        etag: etag.into(),
        validate_only,
    };
    let dry = rig.schedules().put_schedule(put("", true)).await.expect("valid").into_inner();
    let seen = dry.schedule.and_then(|schedule| schedule.spec).map(|spec| spec.note);
    assert_eq!(seen.as_deref(), Some("for people"));
    assert_eq!(rig.get("nightly").await, schedule);
    refused(rig.schedules().put_schedule(put("0", false)).await, Code::Aborted, "ETAG_MISMATCH", "etag");
    let changed = rig.schedules().put_schedule(put(&schedule.etag, false)).await.expect("it is the one").into_inner();
    let changed = changed.schedule.expect("it is shown");
    assert_eq!(changed.next_fire_times, schedule.next_fire_times, "its ticks are the same");
    assert_ne!(changed.etag, schedule.etag);
    rig.restart().await;
    assert_eq!(rig.get("nightly").await, changed);
    let missing = v1::PutScheduleRequest { id: "other".into(), ..put("0", false) };
    refused(rig.schedules().put_schedule(missing).await, Code::Aborted, "ETAG_MISMATCH", "etag");
    let missing = v1::GetScheduleRequest { id: "other".into() };
    refused(rig.schedules().get_schedule(missing).await, Code::NotFound, "SCHEDULE_NOT_FOUND", "");
}

async fn a_changed_cadence_counts_from_now(rig: &mut Rig) {
    let every = |ms| v1::ScheduleSpec { cadence: span(ms).map(Cadence::Interval), ..every_minute("a") };
    rig.put("s", every(10 * MINUTE)).await;
    rig.advance(7 * MINUTE).await;
    let schedule = rig.put("s", every(2 * MINUTE)).await.schedule.expect("it is shown");
    let next: Vec<i64> = schedule.next_fire_times.iter().map(minutes).collect();
    assert_eq!(next, [9, 11, 13, 15, 17]);
    rig.advance(2 * MINUTE).await;
    assert_eq!(rig.ticks("s", 1).await, [9]);
    // What is enqueued is no part of the cadence.
    let mut spec = every(2 * MINUTE);
    spec.job.as_mut().expect("a job").queue = "slow".into();
    rig.put("s", spec).await;
    rig.advance(2 * MINUTE).await;
    assert_eq!(rig.ticks("s", 2).await, [9, 11]);
    let queues: Vec<String> = rig.fired("s").await.into_iter().map(|job| job.spec.expect("its spec").queue).collect();
    assert_eq!(queues, ["a", "slow"]);
}

async fn lists_are_filtered_and_paged(rig: &mut Rig) {
    for n in 0..7 {
        let mut spec = every_minute(if n % 2 == 0 { "even" } else { "odd" });
        spec.job.as_mut().expect("a job").tags = vec![format!("t{n}")];
        rig.put(&format!("s{n}"), spec).await;
    }
    let list = async |filter: &str, page_token: String| {
        let request = v1::ListSchedulesRequest { filter: filter.into(), page_size: 2, page_token };
        rig.schedules().list_schedules(request).await.map(|page| {
            let page = page.into_inner();
            let ids: Vec<String> = page.schedules.into_iter().map(|schedule| schedule.id).collect();
            (ids, page.next_page_token)
        })
    };
    let (ids, token) = list("type = even", String::new()).await.expect("it lists");
    assert_eq!(ids, ["s0", "s2"]);
    refused(list("type = odd", token.clone()).await, Code::InvalidArgument, "INVALID_FIELD", "page_token");
    let (ids, token) = list("type = even", token).await.expect("it goes on");
    assert_eq!((ids, token.as_str()), (vec!["s4".to_owned(), "s6".to_owned()], ""));
    let pause = v1::PauseSchedulesRequest { selector: by_ids(&["s3", "none"]), reason: "why not".into() };
    let result = rig.schedules().pause_schedules(pause).await.expect("it answers").into_inner().result;
    let result = result.expect("a result");
    assert_eq!((result.matched_count, result.affected_count), (1, 1));
    assert_eq!(result.errors[0].error.as_ref().map(|error| error.reason.as_str()), Some("SCHEDULE_NOT_FOUND"));
    for (filter, expected) in [
        ("paused = true", vec!["s3"]),
        ("id = \"s1\"", vec!["s1"]),
        ("tag = t5", vec!["s5"]),
        ("queue = odd AND paused = false", vec!["s1", "s5"]),
        ("type = none", vec![]),
    ] {
        assert_eq!(list(filter, String::new()).await.expect("it lists").0, expected, "{filter}");
    }
    refused(list("cron = x", String::new()).await, Code::InvalidArgument, "INVALID_FILTER", "filter");
}

async fn a_pause_lets_ticks_pass(rig: &mut Rig) {
    rig.put("s", every_minute("a")).await;
    let pause = |reason: &str| v1::PauseSchedulesRequest { selector: by_ids(&["s"]), reason: reason.into() };
    let affected = |result: Option<v1::BulkResult>| result.expect("a result").affected_count;
    let paused = rig.schedules().pause_schedules(pause("disk")).await.expect("paused").into_inner();
    assert_eq!(affected(paused.result), 1);
    let paused = rig.schedules().pause_schedules(pause("disk")).await.expect("paused").into_inner();
    assert_eq!(affected(paused.result), 0, "it was");
    rig.advance(10 * MINUTE).await;
    // A Put leaves the pause as it is.
    let mut spec = every_minute("a");
    spec.note = "other".into();
    rig.put("s", spec).await;
    let schedule = rig.get("s").await;
    assert_eq!((schedule.paused, schedule.pause_reason.as_str()), (true, "disk"));
    assert_eq!((schedule.skipped_count, schedule.next_fire_times.len()), (10, 0));
    rig.restart().await;
    let resume = v1::ResumeSchedulesRequest { selector: by_filter("paused = true") };
    let resumed = rig.schedules().resume_schedules(resume).await.expect("resumed").into_inner();
    assert_eq!(affected(resumed.result), 1);
    let schedule = rig.get("s").await;
    assert_eq!((schedule.paused, schedule.skipped_count, schedule.fired_count), (false, 10, 0));
    assert_eq!(schedule.next_fire_times.first().map(minutes), Some(11));
    rig.advance(MINUTE).await;
    assert_eq!(rig.ticks("s", 1).await, [11], "nothing is caught up");
}

async fn deletes_by_filter_count_first(rig: &mut Rig) {
    rig.put("a", every_minute("x")).await;
    rig.put("b", every_minute("x")).await;
    rig.advance(MINUTE).await;
    assert_eq!(rig.ticks("a", 1).await, [1]);
    let delete = async |selector, force| {
        let request = v1::DeleteSchedulesRequest { selector, force };
        rig.schedules().delete_schedules(request).await.expect("it answers").into_inner().result.expect("a result")
    };
    let counted = delete(by_filter("*"), false).await;
    assert_eq!((counted.matched_count, counted.affected_count), (2, 0));
    assert_eq!(delete(by_ids(&["a"]), false).await.affected_count, 1);
    assert_eq!(delete(by_filter("type = x"), true).await.affected_count, 1);
    let missing = v1::GetScheduleRequest { id: "a".into() };
    refused(rig.schedules().get_schedule(missing).await, Code::NotFound, "SCHEDULE_NOT_FOUND", "");
    assert_eq!(rig.ticks("a", 1).await, [1], "its jobs stay");
    // Nothing comes of it any more, and the name is free.
    rig.advance(5 * MINUTE).await;
    let created = rig.put("a", every_minute("x")).await;
    assert!(created.created);
    rig.advance(MINUTE).await;
    assert_eq!(rig.ticks("a", 2).await, [1, 7]);
}

#[tokio::test]
async fn previews_and_refusals_name_what_they_mean() {
    let rig = Rig::memory().await;
    let preview = async |request| rig.schedules().preview_schedule(request).await.map(tonic::Response::into_inner);
    let mut spec = cron("30 2 * * 1-5", "unused");
    spec.time_zone = "Europe/Berlin".into();
    spec.job = None;
    let asked = v1::PreviewScheduleRequest { spec: Some(spec.clone()), count: 3, ..Default::default() };
    let shown = preview(asked).await.expect("valid");
    assert_eq!(shown.description, "At 02:30, Monday to Friday, Europe/Berlin");
    assert_eq!(shown.fire_times.len(), 3);
    rig.put("s", every_minute("a")).await;
    let shown =
        preview(v1::PreviewScheduleRequest { id: "s".into(), ..Default::default() }).await.expect("it is there");
    assert_eq!(shown.fire_times.iter().map(minutes).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
    refused(preview(v1::PreviewScheduleRequest::default()).await, Code::InvalidArgument, "INVALID_FIELD", "id");
    let both = v1::PreviewScheduleRequest { id: "s".into(), spec: Some(spec.clone()), count: 0 };
    refused(preview(both).await, Code::InvalidArgument, "INVALID_FIELD", "spec");
    let missing = v1::PreviewScheduleRequest { id: "t".into(), ..Default::default() };
    refused(preview(missing).await, Code::NotFound, "SCHEDULE_NOT_FOUND", "");

    let put = async |id: &str, change: fn(&mut v1::ScheduleSpec)| {
        let mut spec = every_minute("a");
        change(&mut spec);
        let request = v1::PutScheduleRequest { id: id.into(), spec: Some(spec), ..Default::default() };
        rig.schedules().put_schedule(request).await
    };
    let bad = async |change, field: &str| {
        refused(put("bad", change).await, Code::InvalidArgument, "INVALID_FIELD", field);
    };
    bad(|spec| spec.cadence = Some(Cadence::Cron("61 * * * *".into())), "spec.cron").await;
    bad(|spec| spec.cadence = None, "spec.cron").await;
    bad(|spec| spec.cadence = span(1).map(Cadence::Interval), "spec.interval").await;
    bad(|spec| spec.time_zone = "Nowhere".into(), "spec.time_zone").await;
    bad(|spec| spec.job = None, "spec.job").await;
    bad(|spec| spec.job.as_mut().expect("a job").r#type = "a b".into(), "spec.job.type").await;
    bad(|spec| spec.gap = 77, "spec.gap").await;
    refused(put("a b", |_| ()).await, Code::InvalidArgument, "INVALID_FIELD", "id");
    let none = v1::PutScheduleRequest { id: "x".into(), ..Default::default() };
    refused(rig.schedules().put_schedule(none).await, Code::InvalidArgument, "INVALID_FIELD", "spec");
    let none = v1::PauseSchedulesRequest::default();
    refused(rig.schedules().pause_schedules(none).await, Code::InvalidArgument, "INVALID_FIELD", "selector");
    let none = v1::ResumeSchedulesRequest { selector: by_ids(&["a b"]) };
    refused(rig.schedules().resume_schedules(none).await, Code::InvalidArgument, "INVALID_FIELD", "selector.ids[0]");
    let none = v1::TriggerScheduleRequest { id: "none".into(), payload: None };
    refused(rig.schedules().trigger_schedule(none).await, Code::NotFound, "SCHEDULE_NOT_FOUND", "");
    for (from, to, field) in [
        (None, time(T0), "from"),
        (time(T0), None, "to"),
        (time(T0), time(T0 - 1), "to"),
        (time(T0), time(T0 + 400_000 * HOUR), "to"),
    ] {
        let request = v1::BackfillScheduleRequest { id: "s".into(), from, to, ..Default::default() };
        let result = rig.schedules().backfill_schedule(request).await;
        refused(result, Code::InvalidArgument, "INVALID_FIELD", field);
    }
}
