//! Reads what the processes wrote, and what the server says.
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use jobwire_proto::v1::{
    AttemptResult, Job, JobState, JobView, ListJobsRequest, Payload, PayloadFormat, payload::Body,
};
use serde_json::Value;

use super::{Millis, Produced, Recorded, Run};
use crate::clients::Clients;

/// Jobs a page.
const PAGE: i32 = 500;

/// The files of `dir` whose names end in `.EXTENSION`, by name.
pub fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("the directory is there");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == extension));
    files.sort();
    files
}

/// A producer's file: lines `sent KEY MS`, `acked KEY JOB STATUS MS`, `failed KEY MS MESSAGE`.
///
/// # Panics
/// On any other line.
pub fn produced(path: &Path) -> Vec<Produced> {
    lines(path)
        .iter()
        .map(|line| match *line.split(' ').collect::<Vec<_>>() {
            ["sent", key, _] => Produced::Sent { key: key.to_owned() },
            ["acked", key, job, status, at] => Produced::Acked {
                key: key.to_owned(),
                job: job.to_owned(),
                created: status.eq_ignore_ascii_case("created"),
                at: at.parse().expect("a time"),
            },
            ["failed", key, _, ref how @ ..] => Produced::Failed { key: key.to_owned(), how: how.join(" ") },
            _ => panic!("{line:?} in {}", path.display()),
        })
        .collect()
}

/// A worker's file: lines `start JOB ATTEMPT DELIVERY PID MS`, `end JOB ATTEMPT DELIVERY PID MS HOW`.
///
/// # Panics
/// On any other line, and on an end without a start.
pub fn runs(path: &Path) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut open: HashMap<String, usize> = HashMap::new();
    for line in lines(path) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |place: usize| -> u64 {
            words[place].parse().unwrap_or_else(|error| panic!("{error}: {line:?} in {}", path.display()))
        };
        let small = |place: usize| i32::try_from(number(place)).expect("a small number");
        let who = words.get(1..5).map(|who| who.join(" ")).unwrap_or_default();
        match words[..] {
            ["start", job, _, _, _, _] => {
                open.insert(who, runs.len());
                let pid = u32::try_from(number(4)).expect("a process id");
                let (attempt, delivery) = (small(2), small(3));
                runs.push(Run { job: job.to_owned(), attempt, delivery, pid, start: number(5), end: None });
            }
            ["end", _, _, _, _, at, how] => {
                let place = open.remove(&who).unwrap_or_else(|| panic!("no start for {line:?} in {}", path.display()));
                runs[place].end = Some((at.parse().expect("a time"), how.to_owned()));
            }
            _ => panic!("{line:?} in {}", path.display()),
        }
    }
    runs
}

/// Every job of the server.
///
/// # Panics
/// When it does not answer.
pub async fn jobs(clients: &Clients, filter: &str) -> Vec<Job> {
    let mut client = clients.jobs.clone();
    let mut request = ListJobsRequest {
        filter: filter.to_owned(),
        page_size: PAGE,
        view: JobView::Full as i32,
        payload_format: PayloadFormat::Raw as i32,
        ..Default::default()
    };
    let mut jobs = Vec::new();
    loop {
        let page = client.list_jobs(request.clone()).await.expect("jobs can be listed").into_inner();
        jobs.extend(page.jobs);
        if page.next_page_token.is_empty() {
            return jobs;
        }
        request.page_token = page.next_page_token;
    }
}

/// A record, as the checker wants it.
pub fn recorded(job: &Job) -> Recorded {
    let counted = |result: AttemptResult| job.attempts.iter().filter(move |lease| lease.result() == result);
    Recorded {
        id: job.id.clone(),
        key: job.spec.as_ref().and_then(|spec| key(spec.payload.as_ref()?)),
        terminal: job.state() as i32 >= JobState::Succeeded as i32,
        succeeded: job.state() == JobState::Succeeded,
        attempt: job.attempt,
        delivery: job.delivery,
        crashes: job.crashes,
        finish: job.finish_time.as_ref().map(millis),
        successes: counted(AttemptResult::Succeeded).map(|lease| lease.delivery).collect(),
        failures: i32::try_from(counted(AttemptResult::Failed).chain(counted(AttemptResult::TimedOut)).count())
            .expect("few"),
    }
}

/// A time of the wire.
pub fn millis(time: &prost_types::Timestamp) -> Millis {
    let (seconds, nanos) = (u64::try_from(time.seconds), u64::try_from(time.nanos));
    seconds.expect("after 1970") * 1_000 + nanos.expect("not negative") / 1_000_000
}

fn key(payload: &Payload) -> Option<String> {
    let body: Value = match payload.body.as_ref()? {
        Body::Text(text) => serde_json::from_str(text).ok()?,
        Body::Data(data) => serde_json::from_slice(data).ok()?,
        Body::Json(_) => return None,
    };
    Some(body.get("key")?.as_str()?.to_owned())
}

/// Whole lines only: a process may be writing.
fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.split('\n').filter(|line| !line.is_empty()).map(str::to_owned).collect()
}
