//! Hand-made histories: each list can become non-empty, and a clean history leaves all of them empty.
use super::*;

const A: u32 = 100;
const B: u32 = 200;

fn sent(key: &str) -> Produced {
    Produced::Sent { key: key.into() }
}

fn acked(key: &str, job: &str) -> Produced {
    Produced::Acked { key: key.into(), job: job.into(), created: true, at: 900 }
}

fn run(job: &str, delivery: i32, pid: u32, start: Millis, end: impl Into<Option<(Millis, &'static str)>>) -> Run {
    let end = end.into().map(|(at, how)| (at, how.to_owned()));
    Run { job: job.into(), attempt: 1, delivery, pid, start, end }
}

/// A job that succeeded in its `delivery`.
fn done(id: &str, key: &str, delivery: i32) -> Recorded {
    Recorded {
        id: id.into(),
        key: Some(key.into()),
        terminal: true,
        succeeded: true,
        attempt: 1,
        delivery,
        finish: Some(100_000),
        successes: vec![delivery],
        ..Recorded::default()
    }
}

/// One job, enqueued, run and done.
fn clean() -> History {
    History {
        produced: vec![sent("k"), acked("k", "j")],
        runs: vec![run("j", 1, A, 1_000, (2_000, "ok"))],
        jobs: vec![done("j", "k", 1)],
        ..History::default()
    }
}

/// Names of the lists that are not empty.
fn broken(history: &History) -> Vec<&'static str> {
    let verdict = history.check();
    assert_eq!(verdict.clean(), verdict.to_string().is_empty());
    verdict.lists().into_iter().filter(|(_, list)| !list.is_empty()).map(|(name, _)| name).collect()
}

#[test]
fn a_clean_history_breaks_nothing() {
    assert_eq!(broken(&clean()), [""; 0]);
    let mut retried = clean();
    retried.runs[0].end = Some((1_500, "ConfError".into()));
    retried.runs.push(run("j", 2, B, 2_000, (3_000, "ok")));
    retried.jobs[0] = Recorded { attempt: 2, failures: 1, ..done("j", "k", 2) };
    assert_eq!(broken(&retried), [""; 0]);
    let mut repeated = clean();
    repeated.produced.push(Produced::Acked { key: "k".into(), job: "j".into(), created: false, at: 950 });
    assert_eq!(broken(&repeated), [""; 0]);
}

#[test]
fn lost_names_what_was_acknowledged_and_is_gone_or_failed() {
    let mut gone = clean();
    gone.produced.push(acked("other", "gone"));
    assert_eq!(broken(&gone), ["lost"]);
    let mut failed = clean();
    (failed.jobs[0].succeeded, failed.jobs[0].successes) = (false, vec![]);
    assert_eq!(broken(&failed), ["lost"]);
    let mut vanished = clean();
    vanished.runs.push(run("ghost", 1, B, 10_000, (11_000, "ok")));
    assert_eq!(broken(&vanished), ["lost"]);
    vanished.server_kills = vec![10_020];
    assert_eq!(broken(&vanished), [""; 0], "its enqueue was not yet durable, nor acknowledged");
}

#[test]
fn a_store_thrown_back_may_forget_two_seconds_and_no_more() {
    let mut gone = clean();
    gone.produced.push(acked("other", "gone"));
    gone.rollbacks = vec![900 + FORGETS + 1];
    assert_eq!(broken(&gone), ["lost"], "it was old enough to be kept");
    gone.rollbacks = vec![900 + FORGETS];
    assert_eq!(broken(&gone), [""; 0]);
    assert_eq!(gone.check().forgotten.len(), 1);
    let mut again = clean();
    again.runs.push(run("j", 1, B, 2_500, (3_500, "ok")));
    assert_eq!(broken(&again), ["double", "rerun"]);
    again.rollbacks = vec![2_200];
    assert_eq!(broken(&again), [""; 0], "the first outcome was forgotten, and its claim");
    assert_eq!(again.check().forgotten.len(), 1);
}

#[test]
fn stuck_names_what_has_not_ended() {
    let mut history = clean();
    history.jobs[0] =
        Recorded { id: "j".into(), key: Some("k".into()), attempt: 1, delivery: 1, ..Recorded::default() };
    assert_eq!(broken(&history), ["stuck"]);
}

#[test]
fn double_names_completions_beyond_one_and_records_that_cannot_be() {
    let mut twice = clean();
    twice.jobs[0].successes = vec![1, 1];
    assert_eq!(broken(&twice), ["double"]);
    let mut invented = clean();
    invented.runs[0].end = Some((2_000, "ConfError".into()));
    assert_eq!(broken(&invented), ["double"], "a success that no handler reported");
    let mut unissued = clean();
    unissued.runs[0].end = Some((1_500, "ConfError".into()));
    unissued.runs.push(run("j", 2, B, 2_000, (3_000, "ok")));
    assert_eq!(broken(&unissued), ["double"], "a delivery that was never issued");
    let mut attempts = clean();
    attempts.jobs[0].attempt = 3;
    assert_eq!(broken(&attempts), ["double"]);
    let mut charged = clean();
    charged.jobs[0].crashes = 1;
    assert_eq!(broken(&charged), ["double"], "nobody crashed");
    let mut resurrected = clean();
    resurrected.jobs[0].finish = Some(500);
    assert_eq!(broken(&resurrected), ["double"]);
}

#[test]
fn overlap_names_handlers_that_ran_at_the_same_time() {
    let mut history = clean();
    history.runs.push(run("j", 2, B, 1_500, (2_500, "ok")));
    history.jobs[0].delivery = 2;
    assert_eq!(broken(&history), ["overlap", "rerun"]);
    history.fates = vec![(A, Fate::Killed { at: 1_200 })];
    assert_eq!(broken(&history), [""; 0], "the first was dead by then");
    history.fates = vec![(A, Fate::Frozen { at: 1_200, until: Some(1_900) })];
    assert_eq!(broken(&history), [""; 0], "the first was frozen, and had not yet heard");
    history.runs[0].end = Some((9_000, "ok".into()));
    history.runs[1].end = Some((9_000, "ok".into()));
    assert_eq!(broken(&history), ["overlap"], "the first should have heard by then");
}

#[test]
fn rerun_names_jobs_run_again_although_their_worker_held_them() {
    let mut history = clean();
    history.runs.push(run("j", 2, B, 5_000, (6_000, "ok")));
    history.jobs[0] = Recorded { successes: vec![2], ..done("j", "k", 2) };
    assert_eq!(broken(&history), ["rerun"]);
    history.server_kills = vec![1_000 + CLAIM_COMMIT + 1];
    assert_eq!(broken(&history), ["rerun"], "the claim was on record before the kill");
    history.server_kills = vec![1_000 + CLAIM_COMMIT];
    assert_eq!(broken(&history), [""; 0], "perhaps it was not");
    history.fates = vec![(A, Fate::Killed { at: 1_900 })];
    assert_eq!(broken(&history), [""; 0], "its worker was gone before it could tell");
}

#[test]
fn a_claim_lost_with_the_server_excuses_one_more_run_and_is_counted() {
    let mut history = clean();
    history.runs.push(run("j", 1, B, 1_500, (2_500, "ok")));
    assert_eq!(broken(&history), ["double", "overlap", "rerun"]);
    history.server_kills = vec![1_030];
    assert_eq!(broken(&history), [""; 0]);
    assert_eq!(history.check().excused, [30]);
    history.server_kills = vec![1_000 + PROVEN.0 + 1];
    assert_eq!(broken(&history), ["double", "overlap", "rerun"], "the claim had time enough");
    // Given out and back, given out again: only then killed, and all of that is forgotten.
    history.runs[0].delivery = 2;
    history.server_kills = vec![1_030];
    assert_eq!(broken(&history), [""; 0]);
    history.server_kills = vec![700];
    assert_eq!(broken(&history), [""; 0], "sent before the kill, started when a slot was free");
    history.server_kills = vec![];
    assert_eq!(broken(&history), ["double", "overlap", "rerun"]);
}

#[test]
fn dup_names_jobs_acknowledged_as_new_or_stored_twice() {
    let mut twice = clean();
    twice.produced.push(acked("k", "j"));
    assert_eq!(broken(&twice), ["dup"]);
    let mut stored = clean();
    stored.jobs.push(done("j2", "k", 1));
    stored.runs.push(run("j2", 1, A, 1_000, (2_000, "ok")));
    assert_eq!(broken(&stored), ["dup"]);
}

#[test]
fn unanswered_enqueues_are_counted_and_blamed_on_nobody() {
    let mut history = clean();
    history.produced.extend([sent("x"), Produced::Failed { key: "x".into(), how: "UNAVAILABLE".into() }]);
    assert_eq!(broken(&history), [""; 0]);
    assert_eq!(history.check().unknown, 1);
}
