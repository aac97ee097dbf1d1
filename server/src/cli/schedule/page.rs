//! A schedule as a page of facts.
use jobwire_proto::v1::{
    CatchUpPolicy, FoldPolicy, GapPolicy, OverlapPolicy, Schedule, ScheduleSpec, schedule_spec::Cadence,
};
use prost_types::Timestamp;

use super::text;

/// `30 2 * * 1-5 Europe/Berlin`, `every 1 m 30 s`.
pub fn cadence(spec: &ScheduleSpec) -> String {
    match &spec.cadence {
        Some(Cadence::Cron(cron)) if spec.time_zone.is_empty() || spec.time_zone == "UTC" => cron.clone(),
        Some(Cadence::Cron(cron)) => format!("{cron} {}", spec.time_zone),
        Some(Cadence::Interval(step)) => format!("every {}", text::words(*step)),
        None => String::new(),
    }
}

/// What stands out.
pub fn note(schedule: &Schedule) -> String {
    let mut notes = Vec::new();
    if schedule.paused {
        let why = if schedule.pause_reason.is_empty() { String::new() } else { format!(": {}", schedule.pause_reason) };
        notes.push(text::line(&format!("paused{why}")).into_owned());
    } else if schedule.next_fire_times.is_empty() {
        notes.push("has ended".to_owned());
    }
    if let Some(at) = &schedule.waiting_fire_time {
        notes.push(format!("the tick of {} waits for the run before it", instant(at)));
    }
    notes
        .extend(schedule.spec.as_ref().map(|spec| text::line(&spec.note).into_owned()).filter(|note| !note.is_empty()));
    notes.join("; ")
}

/// In UTC, so that it can be compared with zones elsewhere.
pub fn instant(at: &Timestamp) -> String {
    jiff::Timestamp::new(at.seconds, at.nanos).map(|time| time.to_string()).unwrap_or_default()
}

/// All that there is to say.
pub fn page(schedule: &Schedule) -> String {
    let spec = schedule.spec.clone().unwrap_or_default();
    let job = spec.job.clone().unwrap_or_default();
    let span = |span: Option<prost_types::Duration>| span.map(text::words).unwrap_or_default();
    let policy = |known: Option<&str>, prefix, number| text::name(known, prefix, number).to_lowercase();
    let last = schedule.last_fire_time.as_ref().map(|at| {
        let state = if schedule.last_job_state == 0 { String::new() } else { text::state(schedule.last_job_state) };
        format!("{}  {} {state}", instant(at), schedule.last_job_id)
    });
    let facts = [
        ("schedule", schedule.id.clone()),
        ("cadence", cadence(&spec)),
        ("start", spec.start_time.as_ref().map(instant).unwrap_or_default()),
        ("end", spec.end_time.as_ref().map(instant).unwrap_or_default()),
        ("type", job.r#type.clone()),
        ("queue", if job.queue == job.r#type { String::new() } else { job.queue.clone() }),
        ("payload", job.payload.as_ref().map(text::payload).unwrap_or_default()),
        ("jitter", span(spec.jitter)),
        (
            "overlap",
            policy(
                OverlapPolicy::try_from(spec.overlap).map(|value| value.as_str_name()).ok(),
                "OVERLAP_POLICY_",
                spec.overlap,
            ),
        ),
        (
            "catch up",
            format!(
                "{} within {}",
                policy(
                    CatchUpPolicy::try_from(spec.catch_up).map(|value| value.as_str_name()).ok(),
                    "CATCH_UP_POLICY_",
                    spec.catch_up,
                ),
                span(spec.catch_up_window)
            ),
        ),
        (
            "clocks",
            format!(
                "gap {}, fold {}",
                policy(GapPolicy::try_from(spec.gap).map(|value| value.as_str_name()).ok(), "GAP_POLICY_", spec.gap),
                policy(
                    FoldPolicy::try_from(spec.fold).map(|value| value.as_str_name()).ok(),
                    "FOLD_POLICY_",
                    spec.fold
                ),
            ),
        ),
        ("last", last.unwrap_or_default()),
        ("fired", text::number(schedule.fired_count)),
        ("skipped", text::number(schedule.skipped_count)),
        ("created", text::time(schedule.create_time.as_ref())),
        ("updated", text::time(schedule.update_time.as_ref())),
        ("etag", schedule.etag.clone()),
        ("note", note(schedule)),
    ];
    let facts = facts.iter().filter(|(_, value)| !value.is_empty());
    let mut page: String = facts.map(|(name, value)| format!("{name:12}  {}\n", text::line(value.trim()))).collect();
    for (place, at) in schedule.next_fire_times.iter().enumerate() {
        let name = if place == 0 { "next" } else { "" };
        page += &format!("{name:12}  {}\n", instant(at));
    }
    page
}

#[cfg(test)]
mod tests {
    use jobwire_proto::v1::JobSpec;

    use super::*;

    fn schedule() -> Schedule {
        let spec = ScheduleSpec {
            cadence: Some(Cadence::Cron("30 2 * * 1-5".into())),
            time_zone: "Europe/Berlin".into(),
            job: Some(JobSpec { r#type: "report".into(), queue: "slow".into(), ..Default::default() }),
            overlap: OverlapPolicy::BufferOne.into(),
            ..Default::default()
        };
        let next = Timestamp { seconds: 1_800_000_000, nanos: 0 };
        Schedule { id: "nightly".into(), spec: Some(spec), next_fire_times: vec![next; 2], ..Default::default() }
    }

    #[test]
    fn a_page_says_when_and_what() {
        let page = page(&schedule());
        for line in [
            "schedule      nightly\n",
            "cadence       30 2 * * 1-5 Europe/Berlin\n",
            "queue         slow\n",
            "overlap       buffer_one\n",
            "next          2027-01-15T08:00:00Z\n              2027-01-15T08:00:00Z\n",
        ] {
            assert!(page.contains(line), "{line:?} in\n{page}");
        }
    }

    #[test]
    fn what_stands_out_is_noted() {
        assert_eq!(note(&schedule()), "");
        let paused = Schedule { paused: true, pause_reason: "disk\u{7}".into(), ..schedule() };
        assert_eq!(note(&paused), "paused: disk\\u{7}");
        assert_eq!(note(&Schedule { next_fire_times: vec![], ..schedule() }), "has ended");
        let every = ScheduleSpec {
            cadence: Some(Cadence::Interval(prost_types::Duration { seconds: 90, nanos: 0 })),
            ..Default::default()
        };
        assert_eq!(cadence(&every), "every 1 m 30 s");
    }
}
