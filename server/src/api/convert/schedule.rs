//! Schedules: what is asked for, the form in which it is kept, and how they are shown.
use bytes::Bytes;
use jobwire_proto::v1::{self, job_spec::Expiration, schedule_spec::Cadence as Wire};
use prost::Message as _;

use super::{
    Ctx, NOTE_BYTES, Parsed, at_most, bulk::Chosen, choice, name, payload, payload::Format, positive_span, span,
    span_between, spec::free_job, time, to_span, to_time, to_time_if,
};
use crate::{
    api::status::ApiError,
    engine::{BadCadence, Calendar, ScheduleBulk, ScheduleSelector, ScheduleView},
    model::{
        limits::Limits,
        schedule::{Cadence, CatchUp, Fold, Gap, INTERVAL_LEAST_MS, Overlap, ScheduleSpec, WINDOW_MS},
        time::DAY,
    },
};

/// A cron expression.
const CRON_BYTES: usize = 256;
/// The most that starts of jobs are spread.
const JITTER_MOST_MS: i64 = DAY;

/// Reads a specification, and writes it down as it is kept: defaults filled in, so that the same thing said in another way
/// is the same. Paths in errors start inside it.
pub fn spec(ctx: Ctx<'_>, mut message: v1::ScheduleSpec) -> Parsed<(ScheduleSpec, Bytes)> {
    at_most("note", message.note.clone(), NOTE_BYTES)?;
    let spec = read(ctx, &message)?;
    // Whatever it counts from: all that can be wrong with a cadence is wrong always.
    if let Err(error) = Calendar::new(&spec, 0) {
        let field = match error {
            BadCadence::Cron(_) | BadCadence::Never => "cron",
            BadCadence::Zone => "time_zone",
        };
        return Err(ApiError::field(field, error.to_string()));
    }
    message.time_zone.clone_from(&spec.zone);
    message.gap = match spec.gap {
        Gap::After => v1::GapPolicy::After,
        Gap::Skip => v1::GapPolicy::Skip,
    }
    .into();
    message.fold = match spec.fold {
        Fold::First => v1::FoldPolicy::First,
        Fold::Both => v1::FoldPolicy::Both,
    }
    .into();
    message.overlap = match spec.overlap {
        Overlap::Allow => v1::OverlapPolicy::Allow,
        Overlap::Skip => v1::OverlapPolicy::Skip,
        Overlap::BufferOne => v1::OverlapPolicy::BufferOne,
        Overlap::CancelPrevious => v1::OverlapPolicy::CancelPrevious,
    }
    .into();
    message.catch_up = match spec.catch_up {
        CatchUp::Last => v1::CatchUpPolicy::Last,
        CatchUp::All => v1::CatchUpPolicy::All,
        CatchUp::None => v1::CatchUpPolicy::None,
    }
    .into();
    message.jitter = (spec.jitter_ms > 0).then(|| to_span(spec.jitter_ms));
    message.catch_up_window = Some(to_span(spec.window_ms));
    if let Some(job) = &mut message.job {
        job.payload = spec.job.payload.clone().map(payload::raw);
    }
    let encoded = message.encode_to_vec().into();
    Ok((spec, encoded))
}

/// A specification as it is kept. What was accepted once is not held against limits that have changed since.
pub fn stored(encoded: &Bytes) -> Option<ScheduleSpec> {
    let message = v1::ScheduleSpec::decode(encoded.clone()).ok()?;
    let limits = Limits {
        payload_bytes: usize::MAX,
        headers: usize::MAX,
        headers_bytes: usize::MAX,
        tags: usize::MAX,
        tag_bytes: usize::MAX,
        delay_ms: i64::MAX / 2,
        timeout_ms: i64::MAX / 2,
        ..Limits::default()
    };
    read(Ctx { limits: &limits, now_ms: 0, strict: true }, &message).ok()
}

fn read(ctx: Ctx<'_>, message: &v1::ScheduleSpec) -> Parsed<ScheduleSpec> {
    let most_ms = ctx.limits.delay_ms;
    let cadence = match &message.cadence {
        None => return Err(ApiError::field("cron", "is required, or interval")),
        Some(Wire::Cron(text)) => Cadence::Cron(at_most("cron", text.clone(), CRON_BYTES)?),
        Some(Wire::Interval(step)) => {
            let step_ms = span_between("interval", Some(step), INTERVAL_LEAST_MS, most_ms)?;
            Cadence::Every(step_ms.expect("it is there"))
        }
    };
    let zone = if message.time_zone.is_empty() { "UTC".to_owned() } else { message.time_zone.clone() };
    if matches!(cadence, Cadence::Every(_)) && zone != "UTC" {
        return Err(ApiError::field("time_zone", "goes with cron only: an interval is elapsed time"));
    }
    let start_ms = message.start_time.as_ref().map(|at| time("start_time", at)).transpose()?;
    let end_ms = message.end_time.as_ref().map(|at| time("end_time", at)).transpose()?;
    if let (Some(start_ms), Some(end_ms)) = (start_ms, end_ms)
        && end_ms <= start_ms
    {
        return Err(ApiError::field("end_time", "must be after start_time"));
    }
    let job = message.job.clone().ok_or_else(|| ApiError::field("job", "is required"))?;
    Ok(ScheduleSpec {
        cadence,
        zone,
        gap: choice(ctx, "gap", message.gap, |gap| match gap {
            v1::GapPolicy::Unspecified | v1::GapPolicy::After => Gap::After,
            v1::GapPolicy::Skip => Gap::Skip,
        })?,
        fold: choice(ctx, "fold", message.fold, |fold| match fold {
            v1::FoldPolicy::Unspecified | v1::FoldPolicy::First => Fold::First,
            v1::FoldPolicy::Both => Fold::Both,
        })?,
        start_ms,
        end_ms,
        jitter_ms: message.jitter.as_ref().map_or(Ok(0), |jitter| span("jitter", jitter, JITTER_MOST_MS))?,
        overlap: overlap(ctx, message.overlap)?,
        catch_up: choice(ctx, "catch_up", message.catch_up, |policy| match policy {
            v1::CatchUpPolicy::Unspecified | v1::CatchUpPolicy::Last => CatchUp::Last,
            v1::CatchUpPolicy::All => CatchUp::All,
            v1::CatchUpPolicy::None => CatchUp::None,
        })?,
        window_ms: match &message.catch_up_window {
            Some(window) => positive_span("catch_up_window", window, most_ms)?,
            None => WINDOW_MS,
        },
        job: template(ctx, job).map_err(|error| error.within("job"))?,
    })
}

pub fn overlap(ctx: Ctx<'_>, value: i32) -> Parsed<Overlap> {
    choice(ctx, "overlap", value, |overlap| match overlap {
        v1::OverlapPolicy::Unspecified | v1::OverlapPolicy::Allow => Overlap::Allow,
        v1::OverlapPolicy::Skip => Overlap::Skip,
        v1::OverlapPolicy::BufferOne => Overlap::BufferOne,
        v1::OverlapPolicy::CancelPrevious => Overlap::CancelPrevious,
    })
}

/// What is enqueued again and again: without what is each job's own.
fn template(ctx: Ctx<'_>, job: v1::JobSpec) -> Parsed<crate::model::job::JobSpec> {
    if !job.id.is_empty() {
        return Err(ApiError::field("id", "must be empty: a schedule's jobs have ids of their own"));
    }
    match job.start {
        None => {}
        Some(v1::job_spec::Start::ScheduleTime(_)) => {
            return Err(ApiError::field("schedule_time", "must be empty: the schedule says when"));
        }
        Some(v1::job_spec::Start::Delay(_)) => {
            return Err(ApiError::field("delay", "must be empty: the schedule says when"));
        }
    }
    if let Some(Expiration::ExpireTime(_)) = job.expiration {
        return Err(ApiError::field("expire_time", "is one point in time for all jobs: use ttl"));
    }
    free_job(ctx, job, "must be empty: the jobs of a schedule wait for nothing")
}

/// Shows a schedule.
pub fn schedule(view: ScheduleView) -> v1::Schedule {
    let ScheduleView { id, schedule, skipped, next_ms, last_state, etag } = view;
    let mut spec = v1::ScheduleSpec::decode(schedule.spec).unwrap_or_default();
    if let Some(job) = &mut spec.job {
        job.payload = job.payload.take().map(|payload| Format::Json.rewrite(payload));
    }
    v1::Schedule {
        id: id.to_string(),
        spec: Some(spec),
        paused: schedule.paused.is_some(),
        pause_reason: schedule.paused.map(|paused| paused.reason).unwrap_or_default(),
        next_fire_times: next_ms.into_iter().map(to_time).collect(),
        last_fire_time: to_time_if(schedule.last_fire_ms),
        last_job_id: schedule.last_job.map(|id| id.to_string()).unwrap_or_default(),
        last_job_state: last_state.map_or(v1::JobState::Unspecified, super::job::state).into(),
        fired_count: schedule.fired as i64,
        skipped_count: skipped as i64,
        create_time: Some(to_time(schedule.create_ms)),
        update_time: Some(to_time(schedule.update_ms)),
        etag,
        waiting_fire_time: schedule.waiting_ms.map(to_time),
    }
}

/// Which schedules are meant.
pub fn selector(chosen: Chosen) -> Parsed<ScheduleSelector> {
    Ok(match chosen {
        Chosen::Ids(ids) => ScheduleSelector::Ids(
            ids.iter().enumerate().map(|(i, id)| name(&format!("selector.ids[{i}]"), id)).collect::<Parsed<_>>()?,
        ),
        Chosen::Filter(filter) => ScheduleSelector::Filter(filter),
    })
}

/// What a call about many schedules did.
pub fn to_result(done: ScheduleBulk) -> v1::BulkResult {
    v1::BulkResult {
        matched_count: done.matched as i32,
        affected_count: done.affected as i32,
        sample_ids: done.sample.iter().map(ToString::to_string).collect(),
        errors: done
            .errors
            .into_iter()
            .map(|(id, error)| v1::BulkError { id: id.to_string(), error: Some(ApiError::from(error).into_item()) })
            .collect(),
        continue_token: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::HOUR;

    fn ctx(limits: &Limits) -> Ctx<'_> {
        Ctx { limits, now_ms: 1_800_000_000_000, strict: true }
    }

    fn message(change: impl FnOnce(&mut v1::ScheduleSpec)) -> v1::ScheduleSpec {
        let mut message = v1::ScheduleSpec {
            cadence: Some(Wire::Cron("30 2 * * 1-5".into())),
            job: Some(v1::JobSpec { r#type: "report".into(), ..Default::default() }),
            ..Default::default()
        };
        change(&mut message);
        message
    }

    #[test]
    fn what_is_kept_reads_back_whatever_the_limits_are_by_then() {
        let (limits, tight) = (Limits::default(), Limits { payload_bytes: 1, ..Limits::default() });
        let body = Some(v1::payload::Body::Text("{\"a\":1}".into()));
        let rich = message(|spec| {
            spec.time_zone = "Europe/Berlin".into();
            spec.overlap = v1::OverlapPolicy::BufferOne.into();
            spec.gap = v1::GapPolicy::Skip.into();
            spec.jitter = Some(to_span(5_000));
            let job = spec.job.as_mut().expect("it is there");
            job.payload = Some(v1::Payload { body, ..Default::default() });
            job.tags = vec!["nightly".into()];
        });
        let (spec, encoded) = spec(ctx(&limits), rich.clone()).expect("valid");
        assert_eq!(stored(&encoded), Some(spec));
        assert!(super::spec(ctx(&tight), rich).is_err());
        assert_eq!(stored(&Bytes::from_static(b"\xff")), None);
    }

    #[test]
    fn defaults_said_and_unsaid_are_the_same_thing() {
        let limits = Limits::default();
        let kept = |change: fn(&mut v1::ScheduleSpec)| spec(ctx(&limits), message(change)).expect("valid").1;
        let said = kept(|spec| {
            spec.time_zone = "UTC".into();
            spec.gap = v1::GapPolicy::After.into();
            spec.fold = v1::FoldPolicy::First.into();
            spec.overlap = v1::OverlapPolicy::Allow.into();
            spec.catch_up = v1::CatchUpPolicy::Last.into();
            spec.catch_up_window = Some(to_span(HOUR));
            spec.jitter = Some(to_span(0));
        });
        assert_eq!(said, kept(|_| ()));
        assert_ne!(said, kept(|spec| spec.note = "other".into()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let limits = Limits::default();
        let at = |change: fn(&mut v1::ScheduleSpec)| {
            spec(ctx(&limits), message(change)).expect_err("refused").into_item().field
        };
        let job = |change: fn(&mut v1::JobSpec)| {
            let mut bad = message(|_| ());
            change(bad.job.as_mut().expect("it is there"));
            spec(ctx(&limits), bad).expect_err("refused").into_item().field
        };
        assert_eq!(at(|spec| spec.cadence = None), "cron");
        assert_eq!(at(|spec| spec.cadence = Some(Wire::Cron("99 * * * *".into()))), "cron");
        assert_eq!(at(|spec| spec.cadence = Some(Wire::Cron("0 0 30 2 *".into()))), "cron");
        assert_eq!(at(|spec| spec.cadence = Some(Wire::Cron("*".repeat(300)))), "cron");
        assert_eq!(at(|spec| spec.cadence = Some(Wire::Interval(to_span(999)))), "interval");
        assert_eq!(at(|spec| spec.time_zone = "Berlin".into()), "time_zone");
        assert_eq!(
            at(|spec| {
                spec.cadence = Some(Wire::Interval(to_span(HOUR)));
                spec.time_zone = "Europe/Berlin".into();
            }),
            "time_zone"
        );
        assert_eq!(
            at(|spec| {
                spec.start_time = Some(to_time(5_000));
                spec.end_time = Some(to_time(5_000));
            }),
            "end_time"
        );
        assert_eq!(at(|spec| spec.jitter = Some(to_span(DAY + 1))), "jitter");
        assert_eq!(at(|spec| spec.catch_up_window = Some(to_span(0))), "catch_up_window");
        assert_eq!(at(|spec| spec.overlap = 9), "overlap");
        assert_eq!(at(|spec| spec.catch_up = 9), "catch_up");
        assert_eq!(at(|spec| spec.gap = 9), "gap");
        assert_eq!(at(|spec| spec.fold = 9), "fold");
        assert_eq!(at(|spec| spec.note = "x".repeat(1_025)), "note");
        assert_eq!(at(|spec| spec.job = None), "job");
        assert_eq!(job(|job| job.r#type.clear()), "job.type");
        assert_eq!(job(|job| job.id = uuid::Uuid::now_v7().to_string()), "job.id");
        assert_eq!(job(|job| job.start = Some(v1::job_spec::Start::Delay(to_span(1)))), "job.delay");
        assert_eq!(job(|job| job.start = Some(v1::job_spec::Start::ScheduleTime(to_time(1)))), "job.schedule_time");
        assert_eq!(job(|job| job.expiration = Some(Expiration::ExpireTime(to_time(1)))), "job.expire_time");
    }
}
