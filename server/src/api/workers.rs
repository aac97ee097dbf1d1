//! WorkerService: the workers' stream and its unary twins.
use jobwire_proto::v1::{self, worker_service_server::WorkerService};
use prost::Message as _;
use tonic::{Request, Streaming};

use super::{
    Answer, answer,
    convert::{
        LABEL_BYTES, Parsed, count, cut,
        frame::{served, tokens},
        job_id, lease, outcome,
        payload::Format,
        size, span_between, to_span, token,
        workflow::to_dependency_result,
    },
    status::ApiError,
    stream::{self, Outbound},
    unary,
};
use crate::{
    engine::{Engine, LeaseRequest},
    model::time::{HOUR, MINUTE, SECOND},
};

mod session;

/// LeaseJobs: jobs of one call.
const LEASE_JOBS: i32 = 1_000;
/// LeaseJobs: how long it waits for the first job.
const DEFAULT_POLL: i64 = 20 * SECOND;
const MAX_POLL: i64 = MINUTE;
/// ListDependencyResults: results of a page when the request does not say, and their bytes; the first always fits.
const RESULTS: usize = 100;
const RESULTS_BYTES: usize = 2 << 20;
/// Leases of the unary calls.
const DEFAULT_LEASE: i64 = MINUTE;
const MIN_LEASE: i64 = 10 * SECOND;
const MAX_LEASE: i64 = 12 * HOUR;

pub struct Workers {
    engine: Engine,
}

impl Workers {
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }

    async fn lease(&self, request: v1::LeaseJobsRequest) -> Parsed<v1::LeaseJobsResponse> {
        let ctx = unary(&self.engine);
        let (types, subscriptions) = served(request.types, request.subscriptions)?;
        let max_jobs = match request.max_jobs {
            0 => 1,
            n @ 1..=LEASE_JOBS => n as usize,
            _ => return Err(ApiError::field("max_jobs", format!("must be 1 to {LEASE_JOBS}"))),
        };
        let wait_ms = span_between("wait", request.wait.as_ref(), 0, MAX_POLL)?.unwrap_or(DEFAULT_POLL);
        let lease_ms = lease_ttl(request.lease_ttl.as_ref())?;
        let format = Format::parse(ctx, request.payload_format)?;
        let worker_id = cut(request.worker_id, LABEL_BYTES);
        let leases = self
            .engine
            .lease_jobs(LeaseRequest { types, subscriptions, max_jobs, wait_ms, lease_ms, worker_id })
            .await?;
        let stored: Vec<_> = leases.into_iter().map(lease::lease).collect();
        let answer = |jobs| v1::LeaseJobsResponse { jobs, lease_ttl: Some(to_span(lease_ms)) };
        let shown = answer(stored.iter().cloned().map(|job| lease::reformat(job, format)).collect());
        // JSON grows as a structure. The leases are out: rather as stored than not at all.
        Ok(if shown.encoded_len() < ctx.limits.message_bytes { shown } else { answer(stored) })
    }

    async fn report(&self, request: v1::ReportJobsRequest) -> Parsed<v1::ReportJobsResponse> {
        let ctx = unary(&self.engine);
        count("outcomes", request.outcomes.len(), ctx.limits.outcomes)?;
        let (mut reports, mut rejections) = (Vec::with_capacity(request.outcomes.len()), Vec::new());
        for outcome in request.outcomes {
            match outcome::report(ctx, outcome) {
                Ok(report) => reports.push(report),
                Err((_, rejection)) => rejections.push(rejection),
            }
        }
        let progress =
            request.progress.into_iter().filter_map(|report| outcome::progress_report(ctx, report)).collect();
        let logs = request.logs.into_iter().filter_map(|report| outcome::log_report(ctx, report)).collect();
        rejections.extend(self.engine.report(reports, progress, logs).await?);
        Ok(v1::ReportJobsResponse { rejections: lease::rejections(rejections) })
    }

    async fn dependency_results(
        &self,
        request: v1::ListDependencyResultsRequest,
    ) -> Parsed<v1::ListDependencyResultsResponse> {
        let limits = self.engine.limits();
        let id = job_id("job_id", &request.job_id)?;
        let page = size("page_size", request.page_size, RESULTS, limits.page_size)?;
        let question = token::question(&["ListDependencyResults", &id.to_string()]);
        let from: u64 = token::read("page_token", question, &request.page_token)?.unwrap_or_default();
        let (results, next) = self.engine.dependency_results(id, from as usize, page, RESULTS_BYTES).await?;
        Ok(v1::ListDependencyResultsResponse {
            results: results.into_iter().map(to_dependency_result).collect(),
            next_page_token: token::write(question, next.map(|next| next as u64)),
        })
    }

    async fn extend(&self, request: v1::ExtendLeasesRequest) -> Parsed<v1::ExtendLeasesResponse> {
        let ctx = unary(&self.engine);
        if request.lease_tokens.is_empty() {
            return Err(ApiError::field("lease_tokens", "must not be empty"));
        }
        count("lease_tokens", request.lease_tokens.len(), ctx.limits.ids)?;
        let lease_ms = lease_ttl(request.lease_ttl.as_ref())?;
        let (tokens, mut lost) = tokens(request.lease_tokens);
        let (gone, cancels) = self.engine.extend(tokens, lease_ms).await?;
        lost.extend(lease::encode(&gone));
        Ok(v1::ExtendLeasesResponse { lost, cancels: lease::cancels(cancels), lease_ttl: Some(to_span(lease_ms)) })
    }
}

fn lease_ttl(value: Option<&prost_types::Duration>) -> Parsed<i64> {
    Ok(span_between("lease_ttl", value, MIN_LEASE, MAX_LEASE)?.unwrap_or(DEFAULT_LEASE))
}

#[tonic::async_trait]
impl WorkerService for Workers {
    type StreamJobsStream = Outbound<v1::StreamJobsResponse>;

    /// Answers at once: clients wait for the response headers before they go on.
    async fn stream_jobs(&self, request: Request<Streaming<v1::StreamJobsRequest>>) -> Answer<Self::StreamJobsStream> {
        let (engine, inbound) = (self.engine.clone(), request.into_inner());
        answer(Ok(stream::spawn(|out| session::run(engine, inbound, out))))
    }

    async fn lease_jobs(&self, request: Request<v1::LeaseJobsRequest>) -> Answer<v1::LeaseJobsResponse> {
        answer(self.lease(request.into_inner()).await)
    }

    async fn report_jobs(&self, request: Request<v1::ReportJobsRequest>) -> Answer<v1::ReportJobsResponse> {
        answer(self.report(request.into_inner()).await)
    }

    async fn extend_leases(&self, request: Request<v1::ExtendLeasesRequest>) -> Answer<v1::ExtendLeasesResponse> {
        answer(self.extend(request.into_inner()).await)
    }

    async fn list_dependency_results(
        &self,
        request: Request<v1::ListDependencyResultsRequest>,
    ) -> Answer<v1::ListDependencyResultsResponse> {
        answer(self.dependency_results(request.into_inner()).await)
    }
}
