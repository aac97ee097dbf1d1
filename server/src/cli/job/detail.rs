//! One job on a page.
use std::fmt::Write as _;

use jobwire_proto::v1::{Job, JobSpec};

use crate::cli::{output::Output, text};

/// Everything about a job that is set, for a person.
pub fn detail(out: &Output, job: &Job) -> String {
    let nothing = JobSpec::default();
    let spec = job.spec.as_ref().unwrap_or(&nothing);
    let mut page = Page::default();
    page.fact("id", &job.id);
    page.fact("state", &text::state(job.state));
    page.fact("type", &spec.r#type);
    page.fact("queue", &spec.queue);
    let most = spec.retry.as_ref().map_or(0, |retry| retry.max_attempts);
    let of = match most {
        0 => String::new(),
        -1 => " of any number".to_owned(),
        most => format!(" of {most}"),
    };
    page.fact("attempt", &format!("{}{of}", job.attempt));
    if job.crashes > 0 {
        page.fact("crashes", &job.crashes.to_string());
    }
    if spec.priority != 0 {
        page.fact("priority", &spec.priority.to_string());
    }
    page.fact("fairness key", &text::line(&spec.fairness_key));
    page.fact("tags", &text::line(&spec.tags.join(", ")));
    for (name, time) in [
        ("created", &job.create_time),
        ("due", &job.schedule_time),
        ("started", &job.start_time),
        ("finished", &job.finish_time),
        ("cancel asked", &job.cancel_request_time),
        ("kept until", &job.purge_time),
    ] {
        if time.is_some() {
            page.fact(name, &format!("{}  ({})", text::time(time.as_ref()), text::ago(time.as_ref())));
        }
    }
    page.fact("timeout", &spec.timeout.map(text::words).unwrap_or_default());
    page.fact("worker", &text::line(&job.worker_id));
    page.fact("parent", &spec.parent_id);
    page.fact("workflow", &text::line(&job.workflow_id));
    page.fact("schedule", &text::line(&job.schedule_id));
    for (key, value) in &spec.headers {
        page.fact("header", &format!("{} = {}", text::line(key), text::line(value)));
    }
    page.fact("progress", &job.progress.as_ref().map(text::progress).unwrap_or_default());
    page.fact("payload", &spec.payload.as_ref().map(text::payload).unwrap_or_default());
    page.fact("result", &job.result.as_ref().map(text::payload).unwrap_or_default());
    if let Some(failure) = &job.failure {
        page.fact("failure", &text::failure(failure));
        page.fact("", &text::lines(failure.stack_trace.trim_end()));
        let mut cause = failure.cause.as_deref();
        while let Some(failure) = cause {
            page.fact("caused by", &text::failure(failure));
            cause = failure.cause.as_deref();
        }
    }
    page.0 + &attempts(out, job)
}

fn attempts(out: &Output, job: &Job) -> String {
    if job.attempts.is_empty() {
        return String::new();
    }
    let mut rows = out.table(&[">TRY", "RESULT", "STARTED", ">RAN", ">WAITED", "WORKER", "FAILURE"]);
    for attempt in &job.attempts {
        rows.row([
            attempt.attempt.to_string(),
            text::result(attempt.result),
            text::time(attempt.start_time.as_ref()),
            attempt.run_duration.map(text::words).unwrap_or_default(),
            attempt.wait_duration.map(text::words).unwrap_or_default(),
            text::cut(&text::line(&attempt.worker_id), 30),
            attempt.failure.as_ref().map(|failure| text::cut(&text::failure(failure), 60)).unwrap_or_default(),
        ]);
    }
    format!("\n{}", rows.text(""))
}

/// `name  value` lines; values of several lines are indented.
#[derive(Default)]
struct Page(String);

impl Page {
    /// Left out when the value is empty.
    fn fact(&mut self, name: &str, value: &str) {
        for (place, line) in value.lines().enumerate() {
            let name = if place == 0 { name } else { "" };
            writeln!(self.0, "{name:12}  {line}").expect("a String takes all");
        }
    }
}

#[cfg(test)]
mod tests {
    use jobwire_proto::v1::{Attempt, AttemptResult, Failure, JobState};

    use super::*;

    #[test]
    fn a_dead_job_shows_its_failure_trace_and_attempts() {
        let failure = Failure {
            r#type: "smtp.Timeout".into(),
            message: "no answer".into(),
            stack_trace: "at a\nat b\n".into(),
            cause: Some(Box::new(Failure { message: "socket".into(), ..Failure::default() })),
            ..Failure::default()
        };
        let attempt = Attempt { attempt: 1, result: AttemptResult::Failed as i32, ..Attempt::default() };
        let job = Job {
            id: "019ab2c4".into(),
            state: JobState::Dead as i32,
            spec: Some(JobSpec { r#type: "mail".into(), ..JobSpec::default() }),
            attempt: 1,
            failure: Some(failure),
            attempts: vec![attempt],
            ..Job::default()
        };
        let out = Output::new(Some(crate::cli::output::Format::Table), true);
        let page = detail(&out, &job);
        for line in [
            "id            019ab2c4\n",
            "state         DEAD\n",
            "failure       smtp.Timeout: no answer\n",
            "              at a\n              at b\n",
            "caused by     failed: socket\n",
        ] {
            assert!(page.contains(line), "{line:?} in\n{page}");
        }
        assert!(page.lines().any(|line| line.contains("FAILED") && line.trim_start().starts_with('1')), "{page}");
        assert!(!page.contains("crashes"), "{page}");
    }
}
