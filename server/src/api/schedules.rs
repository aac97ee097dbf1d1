//! ScheduleService: recurring jobs.
use jobwire_proto::v1::{self, schedule_service_server::ScheduleService};
use tonic::Request;

use super::{
    Answer, answer,
    convert::{
        NOTE_BYTES, Parsed, at_most, bulk, name,
        payload::payload,
        schedule::{overlap, schedule, selector, spec, to_result},
        size, time, to_time, token,
    },
    status::ApiError,
    unary,
};
use crate::{
    engine::{Backfill, Engine, ScheduleSelector},
    model::filter::SCHEDULE_FIELDS,
};

/// Schedules of a page when the request does not say.
const PAGE: usize = 50;
/// Fire times of a preview: by default, and at most.
const PREVIEW: (usize, usize) = (10, 100);

pub struct Schedules {
    engine: Engine,
}

impl Schedules {
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }

    async fn put(&self, request: v1::PutScheduleRequest) -> Parsed<v1::PutScheduleResponse> {
        let id = name("id", &request.id)?;
        let asked = request.spec.ok_or_else(|| ApiError::field("spec", "is required"))?;
        let spec = spec(unary(&self.engine), asked).map_err(|error| error.within("spec"))?;
        let etag = Some(request.etag).filter(|etag| !etag.is_empty());
        let (view, created) = self.engine.put_schedule(id, spec, etag, request.validate_only).await?;
        Ok(v1::PutScheduleResponse { schedule: Some(schedule(view)), created })
    }

    async fn get(&self, request: v1::GetScheduleRequest) -> Parsed<v1::GetScheduleResponse> {
        let view = self.engine.schedule(name("id", &request.id)?).await?;
        Ok(v1::GetScheduleResponse { schedule: Some(schedule(view)) })
    }

    async fn list(&self, request: v1::ListSchedulesRequest) -> Parsed<v1::ListSchedulesResponse> {
        let limits = self.engine.limits();
        let filter = bulk::filter(limits, request.filter, SCHEDULE_FIELDS)?;
        let page_size = size("page_size", request.page_size, PAGE, limits.page_size)?;
        let question = token::question(&["ListSchedules", &filter.to_string()]);
        let after: Option<String> = token::read("page_token", question, &request.page_token)?;
        let page = self.engine.schedules(&filter, after.as_deref(), page_size).await?;
        let next = page.schedules.last().filter(|_| page.more).map(|view| view.id.to_string());
        Ok(v1::ListSchedulesResponse {
            schedules: page.schedules.into_iter().map(schedule).collect(),
            next_page_token: token::write(question, next),
        })
    }

    fn selected(&self, asked: Option<v1::Selector>) -> Parsed<ScheduleSelector> {
        selector(bulk::chosen(self.engine.limits(), asked, SCHEDULE_FIELDS)?)
    }

    async fn pause(&self, request: v1::PauseSchedulesRequest) -> Parsed<v1::PauseSchedulesResponse> {
        let reason = at_most("reason", request.reason, NOTE_BYTES)?;
        let done = self.engine.pause_schedules(self.selected(request.selector)?, reason).await?;
        Ok(v1::PauseSchedulesResponse { result: Some(to_result(done)) })
    }

    async fn resume(&self, request: v1::ResumeSchedulesRequest) -> Parsed<v1::ResumeSchedulesResponse> {
        let done = self.engine.resume_schedules(self.selected(request.selector)?).await?;
        Ok(v1::ResumeSchedulesResponse { result: Some(to_result(done)) })
    }

    async fn trigger(&self, request: v1::TriggerScheduleRequest) -> Parsed<v1::TriggerScheduleResponse> {
        let id = name("id", &request.id)?;
        let ctx = unary(&self.engine);
        let body = payload(ctx, "payload", request.payload, ctx.limits.payload_bytes)?;
        let job = self.engine.trigger_schedule(id, body).await?;
        Ok(v1::TriggerScheduleResponse { job_id: job.to_string() })
    }

    async fn delete(&self, request: v1::DeleteSchedulesRequest) -> Parsed<v1::DeleteSchedulesResponse> {
        let selector = self.selected(request.selector)?;
        // By filter, without `force`, the call counts what it would delete with it.
        let only_count = matches!(selector, ScheduleSelector::Filter(_)) && !request.force;
        let done = self.engine.delete_schedules(selector, only_count).await?;
        Ok(v1::DeleteSchedulesResponse { result: Some(to_result(done)) })
    }

    async fn preview(&self, request: v1::PreviewScheduleRequest) -> Parsed<v1::PreviewScheduleResponse> {
        let count = size("count", request.count, PREVIEW.0, PREVIEW.1)?;
        let (ticks, description) = match (request.id.as_str(), request.spec) {
            ("", None) => return Err(ApiError::field("id", "is required, or spec")),
            ("", Some(mut asked)) => {
                // What is enqueued does not matter here.
                let any = || v1::JobSpec { r#type: "preview".into(), ..Default::default() };
                asked.job.get_or_insert_with(any);
                let (spec, _) = spec(unary(&self.engine), asked).map_err(|error| error.within("spec"))?;
                self.engine.preview(&spec, count).map_err(|error| ApiError::field("spec", error.to_string()))?
            }
            (_, Some(_)) => return Err(ApiError::field("spec", "set id or spec, not both")),
            (id, None) => self.engine.preview_schedule(name("id", id)?, count).await?,
        };
        Ok(v1::PreviewScheduleResponse { fire_times: ticks.into_iter().map(to_time).collect(), description })
    }

    async fn backfill(&self, request: v1::BackfillScheduleRequest) -> Parsed<v1::BackfillScheduleResponse> {
        let id = name("id", &request.id)?;
        let required = |field: &'static str, at: Option<prost_types::Timestamp>| {
            let at = at.ok_or_else(|| ApiError::field(field, "is required"))?;
            time(field, &at)
        };
        let (from_ms, to_ms) = (required("from", request.from)?, required("to", request.to)?);
        if to_ms < from_ms {
            return Err(ApiError::field("to", "must not be before from"));
        }
        if to_ms > self.engine.wall_ms() {
            return Err(ApiError::field("to", "must not lie in the future"));
        }
        let overlap = overlap(unary(&self.engine), request.overlap)?;
        let parts = ["BackfillSchedule", id.as_str(), &format!("{from_ms} {to_ms} {overlap:?} {}", request.dry_run)];
        let question = token::question(&parts);
        let next_ms: Option<i64> = token::read("continue_token", question, &request.continue_token)?;
        let from_ms = next_ms.unwrap_or(from_ms).max(from_ms);
        let asked = Backfill { from_ms, to_ms, overlap, dry_run: request.dry_run };
        let done = self.engine.backfill(id, asked).await?;
        Ok(v1::BackfillScheduleResponse {
            tick_count: done.ticks as i32,
            fired_count: done.fired as i32,
            existing_count: done.existing as i32,
            skipped_count: done.skipped as i32,
            sample_ids: done.sample.iter().map(ToString::to_string).collect(),
            continue_token: token::write(question, done.next_ms),
        })
    }
}

#[tonic::async_trait]
impl ScheduleService for Schedules {
    async fn put_schedule(&self, request: Request<v1::PutScheduleRequest>) -> Answer<v1::PutScheduleResponse> {
        answer(self.put(request.into_inner()).await)
    }

    async fn get_schedule(&self, request: Request<v1::GetScheduleRequest>) -> Answer<v1::GetScheduleResponse> {
        answer(self.get(request.into_inner()).await)
    }

    async fn list_schedules(&self, request: Request<v1::ListSchedulesRequest>) -> Answer<v1::ListSchedulesResponse> {
        answer(self.list(request.into_inner()).await)
    }

    async fn pause_schedules(&self, request: Request<v1::PauseSchedulesRequest>) -> Answer<v1::PauseSchedulesResponse> {
        answer(self.pause(request.into_inner()).await)
    }

    async fn resume_schedules(
        &self,
        request: Request<v1::ResumeSchedulesRequest>,
    ) -> Answer<v1::ResumeSchedulesResponse> {
        answer(self.resume(request.into_inner()).await)
    }

    async fn trigger_schedule(
        &self,
        request: Request<v1::TriggerScheduleRequest>,
    ) -> Answer<v1::TriggerScheduleResponse> {
        answer(self.trigger(request.into_inner()).await)
    }

    async fn delete_schedules(
        &self,
        request: Request<v1::DeleteSchedulesRequest>,
    ) -> Answer<v1::DeleteSchedulesResponse> {
        answer(self.delete(request.into_inner()).await)
    }

    async fn preview_schedule(
        &self,
        request: Request<v1::PreviewScheduleRequest>,
    ) -> Answer<v1::PreviewScheduleResponse> {
        answer(self.preview(request.into_inner()).await)
    }

    async fn backfill_schedule(
        &self,
        request: Request<v1::BackfillScheduleRequest>,
    ) -> Answer<v1::BackfillScheduleResponse> {
        answer(self.backfill(request.into_inner()).await)
    }
}
