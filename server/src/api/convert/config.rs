//! Configurations of queues.
use std::collections::BTreeMap;

use jobwire_proto::v1;

use super::{Ctx, NOTE_BYTES, Parsed, at_most, count, positive_span, spec, to_span};
use crate::{
    api::status::ApiError,
    engine::QueueView,
    model::{
        policy::{Defaults, Exhausted, RetrySpec},
        queue::{Bounds, KeyBounds, QueueConfig, Rate},
    },
};

/// A field of a configuration: its name, and how it gets from one configuration into another.
type Field = (&'static str, fn(&mut v1::QueueConfig, v1::QueueConfig));

/// What a mask may name.
const FIELDS: &[Field] = &[
    ("max_running", |to, from| to.max_running = from.max_running),
    ("rate_limit", |to, from| to.rate_limit = from.rate_limit),
    ("max_running_per_key", |to, from| to.max_running_per_key = from.max_running_per_key),
    ("rate_limit_per_key", |to, from| to.rate_limit_per_key = from.rate_limit_per_key),
    ("key_weights", |to, from| to.key_weights = from.key_weights),
    ("max_depth", |to, from| to.max_depth = from.max_depth),
    ("retry", |to, from| to.retry = from.retry),
    ("timeout", |to, from| to.timeout = from.timeout),
    ("ttl", |to, from| to.ttl = from.ttl),
    ("retention", |to, from| to.retention = from.retention),
    ("dead_retention", |to, from| to.dead_retention = from.dead_retention),
    ("max_finished", |to, from| to.max_finished = from.max_finished),
    ("max_dead", |to, from| to.max_dead = from.max_dead),
    ("durability", |to, from| to.durability = from.durability),
    ("shards", |to, from| to.shards = from.shards),
    ("note", |to, from| to.note = from.note),
];

/// The configuration as it becomes when the fields of `mask` (`None` = all) are taken from `wanted`.
pub fn masked(present: v1::QueueConfig, wanted: v1::QueueConfig, mask: Option<&[String]>) -> Parsed<v1::QueueConfig> {
    let Some(mask) = mask else { return Ok(wanted) };
    let mut merged = present;
    for path in mask {
        let field = FIELDS.iter().find(|(name, _)| name == path);
        let Some((_, take)) = field else {
            let names: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
            return Err(ApiError::field("update_mask", format!("{path:?} is none of {}", names.join(", "))));
        };
        take(&mut merged, wanted.clone());
    }
    Ok(merged)
}

/// Reads a configuration, but for its shards. Paths in errors start inside it.
pub fn config(ctx: Ctx<'_>, config: &v1::QueueConfig) -> Parsed<QueueConfig> {
    not_yet(config)?;
    let span = |field: &str, value: &Option<prost_types::Duration>| spec::retention(ctx, field, value.as_ref());
    let retry = config.retry.clone().map(|retry| spec::retry_spec(ctx, retry)).transpose();
    Ok(QueueConfig {
        bounds: Bounds {
            max_running: not_negative("max_running", config.max_running)?,
            rate: config.rate_limit.map(rate).transpose().map_err(|error| error.within("rate_limit"))?,
            per_key: KeyBounds {
                max_running: not_negative("max_running_per_key", config.max_running_per_key)?,
                rate: config
                    .rate_limit_per_key
                    .map(rate)
                    .transpose()
                    .map_err(|error| error.within("rate_limit_per_key"))?,
            },
            max_depth: not_negative("max_depth", config.max_depth)?,
            max_finished: kept("max_finished", config.max_finished)?,
            max_dead: kept("max_dead", config.max_dead)?,
        },
        defaults: Defaults {
            retry: retry.map_err(|error| error.within("retry"))?.unwrap_or_default(),
            timeout_ms: spec::timeout(ctx, "timeout", config.timeout.as_ref())?,
            ttl_ms: config.ttl.map(|ttl| positive_span("ttl", &ttl, ctx.limits.delay_ms)).transpose()?,
            retention_ms: span("retention", &config.retention)?,
            dead_retention_ms: span("dead_retention", &config.dead_retention)?,
        },
        weights: weights(&config.key_weights)?,
        note: at_most("note", config.note.clone(), NOTE_BYTES)?,
    })
}

/// Refuses bounds that cannot be divided among so many shards.
pub fn divisible(config: &QueueConfig, shards: u16) -> Parsed<()> {
    let least = u32::from(shards);
    let divided = |field: &str, whole: u32| match whole {
        whole if whole == 0 || whole >= least => Ok(()),
        _ => Err(ApiError::field(field, format!("must be at least the number of shards, {least}, which share it"))),
    };
    divided("max_running", config.bounds.max_running)?;
    divided("rate_limit.burst", config.bounds.rate.map_or(0, |rate| rate.burst))?;
    match config.bounds.max_depth {
        depth if depth == 0 || depth >= u64::from(least) => Ok(()),
        _ => Err(ApiError::field("max_depth", format!("must be at least the number of shards, {least}"))),
    }
}

/// Fields of the contract that this server does not have yet: refused, never ignored.
fn not_yet(config: &v1::QueueConfig) -> Parsed<()> {
    let fields = [("durability", config.durability != 0)];
    match fields.into_iter().find(|(_, used)| *used) {
        Some((field, _)) => Err(ApiError::disabled_field(field)),
        None => Ok(()),
    }
}

/// Turns of single keys.
fn weights(weights: &BTreeMap<String, i32>) -> Parsed<BTreeMap<String, u32>> {
    count("key_weights", weights.len(), KEY_WEIGHTS)?;
    let weight = |(key, weight): (&String, &i32)| {
        let field = || format!("key_weights[\"{key}\"]");
        spec::key(&field(), key)?;
        match u32::try_from(*weight) {
            Ok(weight @ 1..=1_000) => Ok((key.clone(), weight)),
            _ => Err(ApiError::field(field(), "must be 1 to 1,000")),
        }
    };
    weights.iter().map(weight).collect()
}

/// Keys of a queue that may have a weight.
const KEY_WEIGHTS: usize = 1_000;

fn rate(limit: v1::RateLimit) -> Parsed<Rate> {
    let max = match u32::try_from(limit.max) {
        Ok(max) if max > 0 => max,
        _ => return Err(ApiError::field("max", "must be at least 1")),
    };
    let per = limit.per.ok_or_else(|| ApiError::field("per", "must be set, such as 1s"))?;
    let per_ms = positive_span("per", &per, RATE_SPAN_MS)?;
    let burst = match u32::try_from(limit.burst) {
        Ok(0) => max,
        Ok(burst) => burst,
        Err(_) => return Err(ApiError::field("burst", "must not be negative")),
    };
    Ok(Rate { max, per_ms, burst })
}

/// The longest `per` of a rate.
const RATE_SPAN_MS: i64 = 30 * crate::model::time::DAY;

fn not_negative<T, U: TryFrom<T>>(field: &str, value: T) -> Parsed<U> {
    U::try_from(value).map_err(|_| ApiError::field(field, "must not be negative"))
}

fn kept(field: &str, value: i64) -> Parsed<i64> {
    match value {
        value if value >= -1 => Ok(value),
        _ => Err(ApiError::field(field, "must be -1 (no limit), 0 (the usual number) or more")),
    }
}

/// What is set, and the shards.
pub fn to_config(config: Option<&QueueConfig>, shards: u16) -> v1::QueueConfig {
    let shards = i32::from(shards);
    let Some(config) = config else {
        return v1::QueueConfig { shards, ..v1::QueueConfig::default() };
    };
    let QueueConfig { bounds, defaults, weights, note } = config;
    let to_rate =
        |rate: Rate| v1::RateLimit { max: rate.max as i32, per: Some(to_span(rate.per_ms)), burst: rate.burst as i32 };
    v1::QueueConfig {
        max_running: bounds.max_running as i32,
        rate_limit: bounds.rate.map(to_rate),
        max_running_per_key: bounds.per_key.max_running as i32,
        rate_limit_per_key: bounds.per_key.rate.map(to_rate),
        key_weights: weights.iter().map(|(key, weight)| (key.clone(), *weight as i32)).collect(),
        max_depth: bounds.max_depth as i64,
        max_finished: bounds.max_finished,
        max_dead: bounds.max_dead,
        retry: (defaults.retry != RetrySpec::default()).then(|| to_retry(&defaults.retry)),
        timeout: defaults.timeout_ms.map(to_span),
        ttl: defaults.ttl_ms.map(to_span),
        retention: defaults.retention_ms.map(to_span),
        dead_retention: defaults.dead_retention_ms.map(to_span),
        shards,
        note: note.clone(),
        ..v1::QueueConfig::default()
    }
}

fn to_retry(retry: &RetrySpec) -> v1::RetryPolicy {
    v1::RetryPolicy {
        max_attempts: retry.max_attempts.unwrap_or(0),
        initial_delay: retry.initial_delay_ms.map(to_span),
        multiplier: retry.multiplier.unwrap_or(0.0),
        max_delay: retry.max_delay_ms.map(to_span),
        jitter: retry.jitter,
        delays: retry.delays_ms.iter().copied().map(to_span).collect(),
        non_retryable_types: retry.non_retryable_types.clone(),
        max_crashes: retry.max_crashes,
        on_exhausted: match retry.on_exhausted {
            None => v1::ExhaustedAction::Unspecified,
            Some(Exhausted::Dead) => v1::ExhaustedAction::Dead,
            Some(Exhausted::Discard) => v1::ExhaustedAction::Discard,
        } as i32,
    }
}

/// What a queue's etag is while it has this version: `PutQueue` takes it back.
pub fn etag(view: &QueueView) -> String {
    view.facts.version().to_string()
}

/// The version that an etag names; `None` = any.
pub fn seen(etag: &str) -> Parsed<Option<u64>> {
    match etag {
        "" => Ok(None),
        etag => etag.parse().map(Some).map_err(|_| ApiError::field("etag", "is not one that this server has given")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_takes_what_it_names_and_knows_every_field() {
        let present = v1::QueueConfig { max_running: 5, note: "old".into(), ..Default::default() };
        let wanted = v1::QueueConfig { max_running: 7, max_depth: 9, note: "new".into(), ..Default::default() };
        let merged = masked(present.clone(), wanted.clone(), Some(&["max_running".into()])).expect("it is a field");
        assert_eq!((merged.max_running, merged.max_depth, merged.note.as_str()), (7, 0, "old"));
        assert_eq!(masked(present.clone(), wanted.clone(), None).expect("all of them"), wanted);
        assert_eq!(masked(present.clone(), wanted.clone(), Some(&[])).expect("none of them"), present);
        assert!(masked(present, wanted, Some(&["maxRunning".into()])).is_err());
        let message = "jobwire.v1.QueueConfig";
        let pool = prost_reflect::DescriptorPool::decode(jobwire_proto::DESCRIPTOR_SET).expect("the contract decodes");
        let message = pool.get_message_by_name(message).expect("it is in the contract");
        let names: Vec<String> = message.fields().map(|field| field.name().to_owned()).collect();
        let known: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, known);
    }
}
