//! A job as written on the command line.
use std::{collections::BTreeMap, io::Read as _, time::Duration};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use jobwire_proto::v1::{
    JobSpec, Payload, RetryPolicy,
    job_spec::{Expiration, Start},
    payload::Body,
};

use super::exit::Failure;
use crate::duration;

/// What can be said about a job, besides its type and payload.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Job")]
pub struct JobOptions {
    /// Queue; default: the type
    #[arg(short, long, value_name = "QUEUE")]
    queue: Option<String>,
    /// Start this long from now
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, conflicts_with = "at")]
    delay: Option<Duration>,
    /// Start at this time: 2026-11-24T09:00:00Z, or local as 2026-11-24T09:00
    #[arg(long, value_name = "TIME", value_parser = point_in_time)]
    at: Option<Timestamp>,
    /// -4 (last) to 4 (first)
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    priority: i32,
    /// Jobs of a queue with different keys take turns
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    fairness_key: String,
    /// Retries after the first attempt; 0 = none, -1 = without end. Default: the queue's
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1..=1_000_000))]
    retries: Option<i32>,
    /// Longest time one attempt may run
    #[arg(id = "job_timeout", long = "timeout", value_name = "DURATION", value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// Give up if the first attempt has not started this long after its time
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    ttl: Option<Duration>,
    /// For filters and dashboards; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Carried to the worker; may be repeated
    #[arg(long = "header", value_name = "KEY=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// A UUID of one's own: enqueueing twice with it makes one job
    #[arg(long, value_name = "UUID")]
    id: Option<uuid::Uuid>,
    /// Media type of the payload; default: application/json, which is checked
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
}

impl JobOptions {
    /// Whether one id is given, which cannot be that of many jobs.
    pub fn has_id(&self) -> bool {
        self.id.is_some()
    }

    /// A job of this type with this body.
    pub fn spec(&self, kind: &str, body: Option<Vec<u8>>) -> Result<JobSpec, Failure> {
        let start = match (self.delay, self.at) {
            (Some(delay), _) => Some(Start::Delay(proto_duration(delay))),
            (None, Some(at)) => Some(Start::ScheduleTime(proto_time(at))),
            (None, None) => None,
        };
        Ok(JobSpec {
            // Always with an id, so that repeating the call is harmless.
            id: self.id.unwrap_or_else(uuid::Uuid::now_v7).to_string(),
            r#type: kind.to_owned(),
            queue: self.queue.clone().unwrap_or_default(),
            payload: body.map(|body| self.payload(body)).transpose()?,
            headers: self.headers.iter().cloned().collect::<BTreeMap<_, _>>(),
            priority: self.priority,
            fairness_key: self.fairness_key.clone(),
            timeout: self.timeout.map(proto_duration),
            retry: self.retries.map(|retries| RetryPolicy {
                max_attempts: if retries < 0 { -1 } else { retries + 1 },
                ..RetryPolicy::default()
            }),
            tags: self.tags.clone(),
            expiration: self.ttl.map(|ttl| Expiration::Ttl(proto_duration(ttl))),
            start,
            ..JobSpec::default()
        })
    }

    fn payload(&self, body: Vec<u8>) -> Result<Payload, Failure> {
        payload(self.content_type.clone().unwrap_or_default(), body)
    }
}

/// JSON is checked here, so that a typing mistake does not become a failing job; it is sent as written.
pub fn payload(content_type: String, body: Vec<u8>) -> Result<Payload, Failure> {
    if content_type.is_empty() || content_type == "application/json" {
        let text = String::from_utf8(body)
            .map_err(|_| Failure::usage("the payload is not UTF-8; for other bytes say --content-type"))?;
        if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&text) {
            let shown = super::text::cut(&super::text::line(text.trim()), 60);
            return Err(Failure::usage(format!(
                "the payload is not JSON: {error}: {shown}\nQuote it for the shell, as '{{\"name\":\"Ada\"}}'; for other \
                     text say --content-type text/plain"
            )));
        }
        return Ok(Payload { body: Some(Body::Text(text.trim().to_owned())), content_type, ..Payload::default() });
    }
    Ok(Payload { body: Some(Body::Data(body.into())), content_type, ..Payload::default() })
}

/// The payload argument: JSON itself, `@FILE`, or `-` for standard input.
pub fn body(argument: &str) -> Result<Vec<u8>, Failure> {
    let cannot = |name: &str, error: std::io::Error| Failure::usage(format!("{name} cannot be read: {error}"));
    match argument.strip_prefix('@') {
        Some(path) => std::fs::read(path).map_err(|error| cannot(path, error)),
        None if argument == "-" => {
            let mut body = Vec::new();
            std::io::stdin().read_to_end(&mut body).map_err(|error| cannot("standard input", error))?;
            Ok(body)
        }
        None => Ok(argument.as_bytes().to_vec()),
    }
}

pub fn proto_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: duration.as_secs() as i64, nanos: duration.subsec_nanos() as i32 }
}

pub fn proto_time(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() }
}

pub fn point_in_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    text.parse::<DateTime>()
        .and_then(|local| local.to_zoned(TimeZone::system()))
        .map(|zoned| zoned.timestamp())
        .map_err(|_| "write 2026-11-24T09:00:00Z, or local time as 2026-11-24T09:00".to_owned())
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_lowercase(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn options(words: &[&str]) -> Result<JobOptions, clap::Error> {
        let command = JobOptions::augment_args(clap::Command::new("x").no_binary_name(true));
        command.try_get_matches_from(words).and_then(|matches| JobOptions::from_arg_matches(&matches))
    }

    #[test]
    fn flags_become_a_specification() {
        let words = "-q mail --delay 90s --priority -3 --retries 4 --timeout 1m --ttl 1h --tag a --tag b --header X=1=2 \
             --fairness-key tenant-7";
        let options = options(&words.split(' ').collect::<Vec<_>>()).expect("flags that parse");
        let spec = options.spec("mail.send", Some(b" {\"a\": 1}\n".to_vec())).expect("a job");
        assert_eq!((spec.r#type.as_str(), spec.queue.as_str(), spec.priority), ("mail.send", "mail", -3));
        assert_eq!(spec.start, Some(Start::Delay(prost_types::Duration { seconds: 90, nanos: 0 })));
        assert_eq!(spec.retry.expect("a policy").max_attempts, 5);
        assert_eq!(spec.expiration, Some(Expiration::Ttl(prost_types::Duration { seconds: 3_600, nanos: 0 })));
        assert_eq!((spec.tags, spec.fairness_key.as_str()), (vec!["a".to_owned(), "b".to_owned()], "tenant-7"));
        assert_eq!(spec.headers.get("x").map(String::as_str), Some("1=2"));
        assert_eq!(spec.payload.expect("a payload").body, Some(Body::Text("{\"a\": 1}".into())), "as written");
        assert_eq!(spec.id.parse::<uuid::Uuid>().expect("a UUID").get_version_num(), 7);
    }

    #[test]
    fn retries_count_from_the_second_attempt() {
        for (retries, attempts) in [("0", 1), ("-1", -1), ("19", 20)] {
            let spec = options(&["--retries", retries]).expect("parses").spec("x", None).expect("a job");
            assert_eq!(spec.retry.expect("a policy").max_attempts, attempts);
        }
    }

    #[test]
    fn what_is_no_json_is_refused_unless_it_is_called_something_else() {
        let error = options(&[]).expect("parses").spec("x", Some(b"{name: Ada}".to_vec())).expect_err("no JSON");
        assert!(error.message.contains("not JSON") && error.message.contains("{name: Ada}"), "{}", error.message);
        let spec = options(&["--content-type", "text/plain"]).expect("parses").spec("x", Some(b"Ada".to_vec()));
        let payload = spec.expect("a job").payload.expect("a payload");
        assert_eq!(payload.body, Some(Body::Data(bytes::Bytes::from_static(b"Ada"))));
    }

    #[test]
    fn times_may_be_absolute_or_local() {
        assert_eq!(point_in_time("2026-11-24T09:00:00Z").expect("a time").as_second(), 1_795_510_800);
        assert!(point_in_time("2026-11-24T09:00").is_ok());
        assert!(point_in_time("tomorrow").is_err());
        assert!(options(&["--at", "2026-11-24T09:00:00Z", "--delay", "1s"]).is_err(), "one start only");
    }
}
