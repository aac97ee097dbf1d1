//! A worker's stream cut after every byte of what it sends: whatever got through, no job is lost and none is done twice.
use std::{net::SocketAddr, time::Duration};

use futures::{StreamExt as _, stream};
use jobwire_proto::v1::{self, AttemptResult, JobState, JobView};
use serde_json::{Value, json};

use crate::{
    clients::Clients,
    pattern::Vars,
    proxy::Proxy,
    stream::{Stream, Transcript},
};

/// Runs at once.
const AT_ONCE: usize = 12;
const WITHIN: Duration = Duration::from_secs(20);
const JOBS: usize = 2;

/// Cuts a run after every `step`th byte, until one gets through uncut.
///
/// # Errors
/// Says after how many bytes, and what happened then.
pub async fn everywhere(server: SocketAddr, step: usize) -> Result<(), String> {
    let mut runs = stream::iter((1..).step_by(step)).map(|bytes| cut_after(server, bytes)).buffered(AT_ONCE);
    let mut count = 0;
    while let Some(whole) = runs.next().await {
        count += 1;
        if whole? {
            // A run has a preface, headers and five frames.
            return if count * step > 300 { Ok(()) } else { Err(format!("only {count} runs were cut")) };
        }
    }
    Ok(())
}

/// One run; true = everything got through.
async fn cut_after(server: SocketAddr, bytes: usize) -> Result<bool, String> {
    let transcript = Transcript::default();
    let queue = format!("cut.{bytes}.{}", uuid::Uuid::new_v4().simple());
    let run =
        Run { server, clients: Clients::to(server), queue, session: uuid::Uuid::new_v4().to_string(), transcript };
    let done = run.play(bytes).await;
    done.map_err(|error| format!("cut after {bytes} bytes: {error}\n{}", run.transcript.show()))
}

struct Run {
    server: SocketAddr,
    clients: Clients,
    queue: String,
    session: String,
    transcript: Transcript,
}

impl Run {
    async fn play(&self, bytes: usize) -> Result<bool, String> {
        let job = v1::JobSpec { r#type: self.queue.clone(), ..Default::default() };
        let request = v1::EnqueueManyRequest { jobs: vec![job; JOBS] };
        let created = self.clients.jobs.clone().enqueue_many(request).await.map_err(|status| status.to_string())?;
        let ids: Vec<String> = created.into_inner().results.into_iter().map(|result| result.job_id).collect();

        // As far as it gets.
        let mut tokens = Vec::new();
        let proxy = Proxy::cutting_after(self.server, bytes).await;
        let whole = self.work(Stream::through(proxy, "cut", self.transcript.clone()), &mut tokens).await.is_ok();
        // The same worker comes back, as often as it takes.
        let deadline = tokio::time::Instant::now() + WITHIN;
        while !self.finished(&ids).await? {
            if tokio::time::Instant::now() > deadline {
                return Err("the jobs do not end".to_owned());
            }
            let proxy = Proxy::to(self.server).await;
            let again = self.work(Stream::through(proxy, "again", self.transcript.clone()), &mut tokens).await;
            if let Err(error) = again {
                self.transcript.note(error);
            }
        }
        Ok(whole)
    }

    /// Opens the stream, naming `tokens`, works off what is left and leaves.
    async fn work(&self, mut stream: Stream, tokens: &mut Vec<String>) -> Result<(), String> {
        let mut vars = Vars::new();
        let held: Vec<Value> = tokens.iter().map(|token| json!({"leaseToken": token, "runningFor": "0.1s"})).collect();
        stream
            .send(&json!({"hello": {"sessionId": self.session, "types": [self.queue], "held": held, "revision": 1,
            "capacity": {"slots": JOBS}, "leaseTtl": "10s"}}))?;
        stream.expect(&json!({"welcome": {"lost": "${lost}", "settled": "${settled}"}}), &mut vars, WITHIN).await?;
        let gone = [&vars["lost"], &vars["settled"]].map(|list| list.as_array().cloned().unwrap_or_default()).concat();
        tokens.retain(|token| !gone.contains(&json!(token)));
        // Nobody else works on this queue: what is neither settled nor in hand comes.
        let settled = vars["settled"].as_array().map_or(0, Vec::len);
        for _ in tokens.len() + settled + self.done().await?..JOBS {
            vars.remove("token");
            stream.expect(&json!({"jobs": [{"leaseToken": "${token}"}]}), &mut vars, Duration::from_secs(3)).await?;
            tokens.push(vars["token"].as_str().unwrap_or_default().to_owned());
        }
        stream.send(&json!({"receivedSeq": stream.read, "started": tokens}))?;
        while let Some(token) = tokens.first().cloned() {
            stream.send(&json!({"outcomes": [{"leaseToken": token, "succeeded": {"result": {"text": "{}"}}}]}))?;
            let acked = json!({"ackedSeq": stream.sent});
            stream.expect(&acked, &mut vars, WITHIN).await?;
            tokens.remove(0);
        }
        stream.half_close();
        let end = stream.expect_end(WITHIN).await?;
        if end.code() == tonic::Code::Ok { Ok(()) } else { Err(end.to_string()) }
    }

    /// How many jobs of the queue have ended.
    async fn done(&self) -> Result<usize, String> {
        let filter = format!("queue = \"{}\" AND state = SUCCEEDED", self.queue);
        let request = v1::ListJobsRequest { filter, ..Default::default() };
        let jobs = self.clients.jobs.clone().list_jobs(request).await.map_err(|status| status.to_string())?;
        Ok(jobs.into_inner().jobs.len())
    }

    /// Whether all jobs have ended, each with exactly one accepted outcome.
    async fn finished(&self, ids: &[String]) -> Result<bool, String> {
        for id in ids {
            let request = v1::GetJobRequest { id: id.clone(), view: JobView::Full as i32, ..Default::default() };
            let answer = self.clients.jobs.clone().get_job(request).await.map_err(|status| status.to_string())?;
            let job = answer.into_inner().job.ok_or("there is no job")?;
            if job.state() != JobState::Succeeded {
                return Ok(false);
            }
            let successes = job.attempts.iter().filter(|attempt| attempt.result() == AttemptResult::Succeeded).count();
            if successes != 1 {
                return Err(format!("{successes} successful attempts of one job: {:?}", job.attempts));
            }
        }
        Ok(true)
    }
}
