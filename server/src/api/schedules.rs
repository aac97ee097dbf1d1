//! ScheduleService: part of the contract, not served yet.
use jobwire_proto::v1::{self, schedule_service_server::ScheduleService};
use tonic::Request;

use super::{Answer, answer, status::ApiError};

pub struct Schedules;

#[tonic::async_trait]
impl ScheduleService for Schedules {
    async fn put_schedule(&self, _: Request<v1::PutScheduleRequest>) -> Answer<v1::PutScheduleResponse> {
        answer(Err(ApiError::disabled("PutSchedule")))
    }

    async fn get_schedule(&self, _: Request<v1::GetScheduleRequest>) -> Answer<v1::GetScheduleResponse> {
        answer(Err(ApiError::disabled("GetSchedule")))
    }

    async fn list_schedules(&self, _: Request<v1::ListSchedulesRequest>) -> Answer<v1::ListSchedulesResponse> {
        answer(Err(ApiError::disabled("ListSchedules")))
    }

    async fn pause_schedules(&self, _: Request<v1::PauseSchedulesRequest>) -> Answer<v1::PauseSchedulesResponse> {
        answer(Err(ApiError::disabled("PauseSchedules")))
    }

    async fn resume_schedules(&self, _: Request<v1::ResumeSchedulesRequest>) -> Answer<v1::ResumeSchedulesResponse> {
        answer(Err(ApiError::disabled("ResumeSchedules")))
    }

    async fn trigger_schedule(&self, _: Request<v1::TriggerScheduleRequest>) -> Answer<v1::TriggerScheduleResponse> {
        answer(Err(ApiError::disabled("TriggerSchedule")))
    }

    async fn delete_schedules(&self, _: Request<v1::DeleteSchedulesRequest>) -> Answer<v1::DeleteSchedulesResponse> {
        answer(Err(ApiError::disabled("DeleteSchedules")))
    }

    async fn preview_schedule(&self, _: Request<v1::PreviewScheduleRequest>) -> Answer<v1::PreviewScheduleResponse> {
        answer(Err(ApiError::disabled("PreviewSchedule")))
    }

    async fn backfill_schedule(&self, _: Request<v1::BackfillScheduleRequest>) -> Answer<v1::BackfillScheduleResponse> {
        answer(Err(ApiError::disabled("BackfillSchedule")))
    }
}
