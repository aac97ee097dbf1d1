//! `queue set`: changes what is named of a queue's configuration, and nothing else.
use std::time::Duration;

use jobwire_proto::v1::{PutQueueRequest, QueueConfig, RateLimit, RetryPolicy};
use prost_types::FieldMask;

use super::{Context, connect::Server, connect::request, exit::Exit, exit::Failure, spec::proto_duration};
use crate::duration;

/// What can be set. Options that are not given stay as they are.
#[derive(clap::Args, Debug)]
pub struct Configure {
    name: String,
    /// Jobs running at once across all workers; 0 = no limit
    #[arg(long, value_name = "N")]
    max_running: Option<i32>,
    /// Starts per time, as 100/1m; "none" = no limit
    #[arg(long, value_name = "N/DURATION", value_parser = rate)]
    rate: Option<Rate>,
    /// Starts at once that a rate allows after a pause; default: all of N
    #[arg(long, value_name = "N", requires = "rate")]
    burst: Option<i32>,
    /// Jobs of each fairness key running at once; 0 = no limit
    #[arg(long, value_name = "N")]
    max_running_per_key: Option<i32>,
    /// Starts of each fairness key per time, as 10/1s; "none" = no limit
    #[arg(long, value_name = "N/DURATION", value_parser = rate)]
    rate_per_key: Option<Rate>,
    /// Starts at once that a key's rate allows after a pause; default: all of N
    #[arg(long, value_name = "N", requires = "rate_per_key")]
    burst_per_key: Option<i32>,
    /// Turns of one fairness key where others have one; may be repeated; those set before are forgotten
    #[arg(long = "key-weight", value_name = "KEY=N", value_parser = weight)]
    key_weights: Vec<(String, i32)>,
    /// All fairness keys have one turn again
    #[arg(long, conflicts_with = "key_weights")]
    no_key_weights: bool,
    /// Jobs waiting; beyond it enqueues fail with QUEUE_FULL; 0 = no limit
    #[arg(long, value_name = "N")]
    max_depth: Option<i64>,
    /// Attempts of jobs that do not say, the first included; -1 = no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max_attempts: Option<i32>,
    /// Longest attempt of jobs that do not say
    #[arg(id = "job_timeout", long = "timeout", value_name = "DURATION", value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// Time to the first start of jobs that do not say
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    ttl: Option<Duration>,
    /// How long finished records stay
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    retention: Option<Duration>,
    /// How long DEAD records stay
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    dead_retention: Option<Duration>,
    /// Finished records kept; 0 = 100,000, -1 = no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max_finished: Option<i64>,
    /// DEAD records kept; 0 = 1,000,000, -1 = no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max_dead: Option<i64>,
    /// Redis only: shards of the store that the queue is spread over
    #[arg(long, value_name = "N")]
    shards: Option<i32>,
    /// For people
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Refuse unless the queue's etag is still this
    #[arg(long, value_name = "ETAG", default_value = "", hide_default_value = true)]
    etag: String,
}

/// A rate as it is written; `None` = no limit.
type Rate = Option<(i32, Duration)>;

// A flag's value: the outer Option is whether it was given.
fn rate(text: &str) -> Result<Rate, String> {
    if text == "none" {
        return Ok(None);
    }
    let (max, per) = text.split_once('/').ok_or("as 100/1m, or none")?;
    let max = max.parse().map_err(|_| format!("{max:?} is not a number"))?;
    Ok(Some((max, duration::parse(per)?)))
}

fn weight(text: &str) -> Result<(String, i32), String> {
    let (key, weight) = text.rsplit_once('=').ok_or("as KEY=3")?;
    Ok((key.to_owned(), weight.parse().map_err(|_| format!("{weight:?} is not a number"))?))
}

impl Configure {
    /// What is asked for: the values, and the names of those that are given.
    fn request(self) -> PutQueueRequest {
        let mut paths = Vec::new();
        let mut named = |path: &str, given: bool| {
            if given {
                paths.push(path.to_owned());
            }
        };
        named("max_running", self.max_running.is_some());
        named("rate_limit", self.rate.is_some());
        named("max_running_per_key", self.max_running_per_key.is_some());
        named("rate_limit_per_key", self.rate_per_key.is_some());
        named("key_weights", !self.key_weights.is_empty() || self.no_key_weights);
        named("max_depth", self.max_depth.is_some());
        named("retry", self.max_attempts.is_some());
        named("timeout", self.timeout.is_some());
        named("ttl", self.ttl.is_some());
        named("retention", self.retention.is_some());
        named("dead_retention", self.dead_retention.is_some());
        named("max_finished", self.max_finished.is_some());
        named("max_dead", self.max_dead.is_some());
        named("shards", self.shards.is_some());
        named("note", self.note.is_some());
        let limit = |rate: Option<Rate>, burst: Option<i32>| {
            let (max, per) = rate.flatten()?;
            Some(RateLimit { max, per: Some(proto_duration(per)), burst: burst.unwrap_or(0) })
        };
        let config = QueueConfig {
            max_running: self.max_running.unwrap_or_default(),
            rate_limit: limit(self.rate, self.burst),
            max_running_per_key: self.max_running_per_key.unwrap_or_default(),
            rate_limit_per_key: limit(self.rate_per_key, self.burst_per_key),
            key_weights: self.key_weights.into_iter().collect(),
            max_depth: self.max_depth.unwrap_or_default(),
            retry: self.max_attempts.map(|max_attempts| RetryPolicy { max_attempts, ..Default::default() }),
            timeout: self.timeout.map(proto_duration),
            ttl: self.ttl.map(proto_duration),
            retention: self.retention.map(proto_duration),
            dead_retention: self.dead_retention.map(proto_duration),
            max_finished: self.max_finished.unwrap_or_default(),
            max_dead: self.max_dead.unwrap_or_default(),
            shards: self.shards.unwrap_or_default(),
            note: self.note.unwrap_or_default(),
            ..QueueConfig::default()
        };
        let update_mask = Some(FieldMask { paths });
        PutQueueRequest { name: self.name, config: Some(config), update_mask, etag: self.etag }
    }
}

pub async fn run(context: &Context, server: &Server, configure: Configure) -> Result<Exit, Failure> {
    let answer = server.ask(server.queues().put_queue(request(configure.request()))).await?;
    let name = answer.queue.as_ref().map(|queue| queue.name.clone()).unwrap_or_default();
    context.out.one("PutQueueResponse", &answer, &name, |_| format!("{name}  configured\n"))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        configure: Configure,
    }

    #[test]
    fn only_what_is_given_is_named() {
        let line = "set mail --rate 100/1m --burst 5 --note ours --max-dead -1";
        let request = Line::try_parse_from(line.split(' ')).expect("it parses").configure.request();
        assert_eq!(request.update_mask.expect("a mask").paths, ["rate_limit", "max_dead", "note"]);
        let config = request.config.expect("a configuration");
        let rate = config.rate_limit.expect("a rate");
        assert_eq!((rate.max, rate.per.map(|per| per.seconds), rate.burst, config.max_dead), (100, Some(60), 5, -1));
        let request = Line::try_parse_from(["set", "mail", "--rate", "none"]).expect("it parses").configure.request();
        assert_eq!(request.update_mask.expect("a mask").paths, ["rate_limit"]);
        assert_eq!(request.config.and_then(|config| config.rate_limit), None);
        let line = "set mail --rate-per-key 5/1s --max-running-per-key 2 --key-weight big=3 --key-weight a=b=2";
        let request = Line::try_parse_from(line.split(' ')).expect("it parses").configure.request();
        let paths = request.update_mask.expect("a mask").paths;
        assert_eq!(paths, ["max_running_per_key", "rate_limit_per_key", "key_weights"]);
        let config = request.config.expect("a configuration");
        assert_eq!(config.key_weights, [("big".to_owned(), 3), ("a=b".to_owned(), 2)].into());
        assert_eq!((config.max_running_per_key, config.rate_limit_per_key.map(|rate| rate.max)), (2, Some(5)));
        for bad in ["100", "x/1m", "5/soon"] {
            assert!(Line::try_parse_from(["set", "mail", "--rate", bad]).is_err(), "{bad}");
        }
    }
}
