//! QueueService: looking at queues, closing and opening them, emptying them.
use jobwire_proto::v1::{self, queue_service_server::QueueService};
use tonic::Request;

use super::{
    Answer, answer,
    convert::{
        NOTE_BYTES, Parsed, at_most, bulk, config, count, name, positive_span,
        queue::{queue, stats},
        size, token,
    },
    status::{ApiError, Reason},
    unary,
};
use crate::{
    engine::{Bulk, ConfigureError, Engine, QueueView, Selector},
    model::{
        filter::{Filter, JOB_FIELDS, QUEUE_FIELDS},
        ids::QueueName,
        limits::{BULK_DEFAULT, BULK_MOST},
        queue::QueueConfig,
    },
};

/// Queues of a page when the request does not say.
const PAGE: usize = 50;

pub struct Queues {
    engine: Engine,
}

impl Queues {
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }

    async fn list(&self, request: v1::ListQueuesRequest) -> Parsed<v1::ListQueuesResponse> {
        let ctx = unary(&self.engine);
        let filter = bulk::filter(ctx.limits, request.filter, QUEUE_FIELDS)?;
        let page_size = size("page_size", request.page_size, PAGE, ctx.limits.page_size)?;
        let question = token::question(&["ListQueues", &filter.to_string()]);
        let after: Option<String> = token::read("page_token", question, &request.page_token)?;
        let mut views = self.engine.queues(None).await?;
        views.retain(|view| {
            after.as_ref().is_none_or(|after| view.facts.name.as_str() > after.as_str()) && filter.matches(view)
        });
        views.sort_by(|a, b| a.facts.name.cmp(&b.facts.name));
        let more = views.len() > page_size;
        views.truncate(page_size);
        let next = views.last().filter(|_| more).map(|view| view.facts.name.to_string());
        Ok(v1::ListQueuesResponse {
            queues: views.into_iter().map(|view| queue(ctx.now_ms, view)).collect(),
            next_page_token: token::write(question, next),
        })
    }

    /// The queue, if anything was ever enqueued to it or it was paused.
    async fn find(&self, text: &str) -> Parsed<QueueView> {
        let name = name("name", text)?;
        let mut views = self.engine.queues(Some(vec![name])).await?;
        views.pop().ok_or_else(|| ApiError::queue_not_found(text))
    }

    async fn get(&self, request: v1::GetQueueRequest) -> Parsed<v1::GetQueueResponse> {
        let view = self.find(&request.name).await?;
        Ok(v1::GetQueueResponse { queue: Some(queue(self.engine.wall_ms(), view)) })
    }

    /// Names as given, or of all queues for `*`.
    async fn named(&self, names: Vec<String>) -> Parsed<Vec<QueueName>> {
        match names.as_slice() {
            [] => Err(ApiError::field("names", "must not be empty; \"*\" means every queue")),
            [all] if all == "*" => {
                Ok(self.engine.queues(None).await?.into_iter().map(|view| view.facts.name).collect())
            }
            some => {
                count("names", some.len(), self.engine.limits().ids)?;
                some.iter().enumerate().map(|(i, text)| name(&format!("names[{i}]"), text)).collect()
            }
        }
    }

    async fn pause(&self, request: v1::PauseQueuesRequest) -> Parsed<v1::PauseQueuesResponse> {
        let reason = at_most("reason", request.reason, NOTE_BYTES)?;
        let most = self.engine.limits().delay_ms;
        let duration = request.duration.map(|value| positive_span("duration", &value, most)).transpose()?;
        let names = self.named(request.names).await?;
        // Without credentials nobody has a name.
        let names = self.engine.pause(names, reason, String::new(), duration).await?;
        Ok(v1::PauseQueuesResponse { names: names.iter().map(ToString::to_string).collect() })
    }

    async fn resume(&self, request: v1::ResumeQueuesRequest) -> Parsed<v1::ResumeQueuesResponse> {
        let names = self.named(request.names).await?;
        let names = self.engine.resume(names).await?;
        Ok(v1::ResumeQueuesResponse { names: names.iter().map(ToString::to_string).collect() })
    }

    async fn put(&self, request: v1::PutQueueRequest) -> Parsed<v1::PutQueueResponse> {
        let ctx = unary(&self.engine);
        let name = name("name", &request.name)?;
        let seen = config::seen(&request.etag)?;
        let wanted = request.config.unwrap_or_default();
        let mask = request.update_mask.map(|mask| mask.paths);
        let there = self.engine.queues(Some(vec![name.clone()])).await?.pop();
        let shards = there.as_ref().map_or(1, |view| view.shards);
        let merge = |present: QueueConfig| {
            let present = config::to_config(Some(&present), shards);
            let merged = config::masked(present, wanted.clone(), mask.as_deref())?;
            let shards = self.shards(merged.shards)?;
            let read = config::config(ctx, &merged).and_then(|config| {
                config::divisible(&config, shards)?;
                Ok((config, shards))
            });
            read.map_err(|error| error.within("config"))
        };
        let (_, width) = merge(there.and_then(|view| view.facts.config).map(|set| *set.config).unwrap_or_default())?;
        let configured = self.engine.configure(&name, seen, |present| merge(present).map(|(config, _)| config)).await;
        configured.map_err(|error| match error {
            ConfigureError::EtagMismatch => ApiError::new(Reason::EtagMismatch, error.to_string()).at("etag"),
            ConfigureError::Refused(error) => error,
            ConfigureError::Store(error) => error.into(),
        })?;
        let view = self.engine.widen(name, width).await?;
        Ok(v1::PutQueueResponse { queue: Some(queue(self.engine.wall_ms(), view)) })
    }

    /// The shards that are asked for; 0 = 1.
    fn shards(&self, wanted: i32) -> Parsed<u16> {
        let most = self.engine.most_shards();
        let shards = u16::try_from(wanted).ok().filter(|shards| *shards <= most);
        let refused =
            || ApiError::field("config.shards", format!("must be 0 to {most}, the number of shards of this store"));
        Ok(shards.ok_or_else(refused)?.max(1))
    }

    async fn purge(&self, request: v1::PurgeQueueRequest) -> Parsed<v1::PurgeQueueResponse> {
        let name = name("name", &request.name)?;
        let question = token::question(&["PurgeQueue", name.as_str()]);
        let bulk = Bulk {
            selector: Selector::Filter(every_job_of(&name)),
            limit: size("limit", request.limit, BULK_DEFAULT, BULK_MOST)?,
            cursor: token::cursor("continue_token", question, &request.continue_token)?,
            dry_run: !request.force,
        };
        self.find(&request.name).await?;
        let done = self.engine.purge(bulk).await?;
        Ok(v1::PurgeQueueResponse { result: Some(bulk::to_result(question, done)) })
    }
}

fn every_job_of(queue: &QueueName) -> Filter {
    Filter::parse(&format!("queue = \"{queue}\""), JOB_FIELDS).expect("names need no escaping")
}

/// Numbers of all queues, or of those named, added up.
pub fn total(now_ms: i64, views: &[QueueView]) -> v1::QueueStats {
    let mut total = v1::QueueStats::default();
    for view in views {
        super::convert::queue::add(&mut total, stats(now_ms, view));
    }
    total
}

#[tonic::async_trait]
impl QueueService for Queues {
    async fn list_queues(&self, request: Request<v1::ListQueuesRequest>) -> Answer<v1::ListQueuesResponse> {
        answer(self.list(request.into_inner()).await)
    }

    async fn get_queue(&self, request: Request<v1::GetQueueRequest>) -> Answer<v1::GetQueueResponse> {
        answer(self.get(request.into_inner()).await)
    }

    async fn put_queue(&self, request: Request<v1::PutQueueRequest>) -> Answer<v1::PutQueueResponse> {
        answer(self.put(request.into_inner()).await)
    }

    async fn pause_queues(&self, request: Request<v1::PauseQueuesRequest>) -> Answer<v1::PauseQueuesResponse> {
        answer(self.pause(request.into_inner()).await)
    }

    async fn resume_queues(&self, request: Request<v1::ResumeQueuesRequest>) -> Answer<v1::ResumeQueuesResponse> {
        answer(self.resume(request.into_inner()).await)
    }

    async fn purge_queue(&self, request: Request<v1::PurgeQueueRequest>) -> Answer<v1::PurgeQueueResponse> {
        answer(self.purge(request.into_inner()).await)
    }

    async fn delete_queue(&self, _: Request<v1::DeleteQueueRequest>) -> Answer<v1::DeleteQueueResponse> {
        answer(Err(ApiError::disabled("DeleteQueue")))
    }
}
