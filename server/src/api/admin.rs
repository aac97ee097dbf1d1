//! AdminService: the server, its numbers, its workers.
use jobwire_proto::v1::{self, admin_service_server::AdminService};
use tonic::Request;

use super::{
    Answer, answer,
    convert::{
        NOTE_BYTES, Parsed, at_most,
        bulk::{self, Chosen},
        count,
        frame::{REVISION, session_id},
        job::{View, job},
        lease, name,
        payload::Format,
        size, span_between, to_span, to_time, token,
        worker::worker,
    },
    queues,
    status::ApiError,
    stream::Outbound,
    unary,
};
use crate::{
    engine::Engine,
    model::{
        filter::WORKER_FIELDS,
        limits::BULK_SAMPLE,
        worker::{Directive, DirectiveKind, WorkerState, WorkerView},
    },
};

/// Workers of a page when the request does not say.
const PAGE: usize = 50;
/// Jobs shown with a worker.
const HELD: usize = 100;

pub struct Admin {
    engine: Engine,
}

impl Admin {
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }

    async fn info(&self) -> Parsed<v1::GetServerInfoResponse> {
        let store = self.engine.store_info().await?;
        Ok(v1::GetServerInfoResponse {
            version: lease::VERSION.to_owned(),
            server_id: self.engine.server_id().to_owned(),
            revision: REVISION,
            features: Vec::new(),
            limits: Some(lease::limits(self.engine.limits())),
            store: store.kind.to_owned(),
            durability: store.durability.name().to_owned(),
            server_time: Some(to_time(self.engine.wall_ms())),
            uptime: Some(to_span(self.engine.uptime_ms())),
        })
    }

    async fn stats(&self, request: v1::GetStatsRequest) -> Parsed<v1::GetStatsResponse> {
        let ctx = unary(&self.engine);
        count("queues", request.queues.len(), ctx.limits.ids)?;
        let names = request
            .queues
            .iter()
            .enumerate()
            .map(|(i, text)| name(&format!("queues[{i}]"), text))
            .collect::<Parsed<Vec<_>>>()?;
        let all = names.is_empty();
        let views = self.engine.queues((!all).then(|| names.clone())).await?;
        let workers = self.engine.all_workers().await;
        let mut total = queues::total(ctx.now_ms, &views);
        // A worker that serves several queues counts once.
        let serves = |worker: &&WorkerView| {
            all || worker.subscriptions.iter().any(|s| names.iter().any(|name| s.queue.matches(name.as_str())))
        };
        for worker in workers.iter().filter(serves) {
            total.workers += 1;
            total.slots += worker.slots as i32;
            total.slots_busy += worker.in_flight as i32;
        }
        Ok(v1::GetStatsResponse {
            total: Some(total),
            queue_count: views.len() as i32,
            queues_paused: views.iter().filter(|view| view.facts.pause.is_some()).count() as i32,
            workers: workers.len() as i32,
            workers_quiet: workers.iter().filter(|worker| worker.state != WorkerState::Active).count() as i32,
            server_time: Some(to_time(ctx.now_ms)),
        })
    }

    async fn list(&self, request: v1::ListWorkersRequest) -> Parsed<v1::ListWorkersResponse> {
        let ctx = unary(&self.engine);
        let filter = bulk::filter(ctx.limits, request.filter, WORKER_FIELDS)?;
        let page_size = size("page_size", request.page_size, PAGE, ctx.limits.page_size)?;
        let question = token::question(&["ListWorkers", &filter.to_string()]);
        let after: Option<String> = token::read("page_token", question, &request.page_token)?;
        let mut views = self.engine.all_workers().await;
        views.retain(|view| after.as_ref().is_none_or(|after| view.session_id > *after) && filter.matches(view));
        views.sort_by(|a, b| a.session_id.cmp(&b.session_id));
        let more = views.len() > page_size;
        views.truncate(page_size);
        let next = views.last().filter(|_| more).map(|view| view.session_id.clone());
        Ok(v1::ListWorkersResponse {
            workers: views.into_iter().map(worker).collect(),
            next_page_token: token::write(question, next),
        })
    }

    async fn get(&self, request: v1::GetWorkerRequest) -> Parsed<v1::GetWorkerResponse> {
        let session = session_id("session_id", request.session_id)?;
        let view = self.engine.all_workers().await.into_iter().find(|view| view.session_id == session);
        let view = view.ok_or_else(|| ApiError::worker_not_found(&session))?;
        let held = self.engine.held_jobs(&session, HELD).await?;
        Ok(v1::GetWorkerResponse {
            worker: Some(worker(view)),
            jobs: held.into_iter().map(|record| job(record, View::Basic, Format::Omit)).collect(),
        })
    }

    async fn signal(&self, request: v1::SignalWorkersRequest) -> Parsed<v1::SignalWorkersResponse> {
        let limits = self.engine.limits();
        let sessions = match bulk::chosen(limits, request.selector, WORKER_FIELDS)? {
            Chosen::Ids(ids) => ids
                .into_iter()
                .enumerate()
                .map(|(i, id)| session_id(&format!("selector.ids[{i}]"), id))
                .collect::<Parsed<Vec<_>>>()?,
            Chosen::Filter(filter) => {
                let matching = self.engine.all_workers().await.into_iter().filter(|view| filter.matches(view));
                matching.map(|view| view.session_id).collect()
            }
        };
        let directive = Directive {
            kind: match v1::DirectiveKind::try_from(request.directive) {
                Ok(v1::DirectiveKind::Run) => DirectiveKind::Run,
                Ok(v1::DirectiveKind::Quiet) => DirectiveKind::Quiet,
                Ok(v1::DirectiveKind::Terminate) => DirectiveKind::Terminate,
                Ok(v1::DirectiveKind::Unspecified) | Err(_) => {
                    return Err(ApiError::field("directive", "must be RUN, QUIET or TERMINATE"));
                }
            },
            grace_ms: span_between("grace", request.grace.as_ref(), 0, limits.timeout_ms)?,
            reason: at_most("reason", request.reason, NOTE_BYTES)?,
        };
        let known =
            if sessions.is_empty() { Vec::new() } else { self.engine.signal(sessions.clone(), directive).await? };
        let unknown = sessions.iter().filter(|session| !known.contains(session));
        Ok(v1::SignalWorkersResponse {
            result: Some(v1::BulkResult {
                matched_count: sessions.len() as i32,
                affected_count: known.len() as i32,
                sample_ids: known.iter().take(BULK_SAMPLE).cloned().collect(),
                errors: unknown
                    .take(BULK_SAMPLE)
                    .map(|session| v1::BulkError {
                        id: session.clone(),
                        error: Some(ApiError::worker_not_found(session).into_item()),
                    })
                    .collect(),
                continue_token: String::new(),
            }),
        })
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_server_info(&self, _: Request<v1::GetServerInfoRequest>) -> Answer<v1::GetServerInfoResponse> {
        answer(self.info().await)
    }

    async fn get_stats(&self, request: Request<v1::GetStatsRequest>) -> Answer<v1::GetStatsResponse> {
        answer(self.stats(request.into_inner()).await)
    }

    async fn list_workers(&self, request: Request<v1::ListWorkersRequest>) -> Answer<v1::ListWorkersResponse> {
        answer(self.list(request.into_inner()).await)
    }

    async fn get_worker(&self, request: Request<v1::GetWorkerRequest>) -> Answer<v1::GetWorkerResponse> {
        answer(self.get(request.into_inner()).await)
    }

    async fn signal_workers(&self, request: Request<v1::SignalWorkersRequest>) -> Answer<v1::SignalWorkersResponse> {
        answer(self.signal(request.into_inner()).await)
    }

    type WatchEventsStream = Outbound<v1::WatchEventsResponse>;

    async fn watch_events(&self, _: Request<v1::WatchEventsRequest>) -> Answer<Self::WatchEventsStream> {
        answer(Err(ApiError::disabled("WatchEvents")))
    }
}
