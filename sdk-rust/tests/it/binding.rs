//! Results of other nodes in the input of a job, as a worker gets them.

use jobwire::prelude::*;
use jobwire::{Batch, JobState};
use jobwire_proto::v1 as pb;
use pb::outcome::Result as Arm;
use prost::Message;

use crate::script::{Answering, Script, WorkerConn, answer, lease, serve, soon, text};

#[derive(Debug, Serialize, Deserialize)]
struct Report {
    title: String,
    rows: Vec<u32>,
}

impl Task for Report {
    const TYPE: &'static str = "report";
    type Output = String;
}

async fn report(ctx: Ctx<Report>) -> Result<String, JobError> {
    let all: Vec<_> = ctx.dependencies().into_iter().map(|one| (one.alias, one.state)).collect();
    assert!(all.iter().all(|(_, state)| *state == JobState::Succeeded), "{all:?}");
    Ok(format!("{}: {:?}", ctx.input().title, ctx.input().rows))
}

async fn reports(batch: Batch<Report>) -> Result<Vec<String>, JobError> {
    Ok(batch.inputs().map(|report| format!("{}: {:?}", report.title, report.rows)).collect())
}

fn result(alias: &str, json: &str) -> pb::DependencyResult {
    let state = pb::JobState::Succeeded as i32;
    pb::DependencyResult { alias: alias.into(), state, result: Some(text(json)), ..Default::default() }
}

/// A report whose rows are bound by this header.
fn bound(token: &str, header: &str, dependencies: Vec<pb::DependencyResult>) -> pb::JobLease {
    let lease = lease(token, "report", r#"{"title":"Sales"}"#);
    let mut task = pb::Task::decode(lease.task.clone()).expect("a task");
    task.headers.insert("jobwire-bind".into(), header.into());
    pb::JobLease { task: task.encode_to_vec().into(), dependencies, ..lease }
}

async fn connected(server: &mut Script) -> WorkerConn {
    let mut conn = soon("stream", server.workers.recv()).await.expect("a stream");
    conn.welcome(pb::Welcome::default()).await;
    conn
}

async fn said(conn: &mut WorkerConn, token: &str) -> String {
    read(conn.outcome(token).await)
}

fn read(outcome: pb::Outcome) -> String {
    match outcome.result.expect("an arm") {
        Arm::Succeeded(done) => match done.result.expect("a result").body.expect("a body") {
            pb::payload::Body::Text(text) => text,
            other => panic!("{other:?}"),
        },
        Arm::Failed(failed) => {
            assert_eq!(failed.action, pb::FailureAction::Stop as i32);
            let failure = failed.failure.expect("a failure");
            assert_eq!(failure.kind, pb::FailureKind::Unprocessable as i32);
            failure.message
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn results_come_into_the_input_where_the_header_says() {
    let mut server = serve(Answering::default()).await;
    let worker = Worker::builder(Client::connect(&server.url).expect("a client")).handle(report);
    tokio::spawn(worker.run_until(std::future::pending()));
    let mut conn = connected(&mut server).await;
    conn.deliver_lease(2, bound("t1", r#"{"rows":"rows"}"#, vec![result("rows", "[1,2]")]));
    assert_eq!(said(&mut conn, "t1").await, r#""Sales: [1, 2]""#);
    let list = vec![result("rows", "3"), result("rows", "4")];
    conn.deliver_lease(3, bound("t2", r#"{"rows":"rows[]"}"#, list));
    assert_eq!(said(&mut conn, "t2").await, r#""Sales: [3, 4]""#);
    conn.deliver_lease(4, bound("t3", r#"{"previous":""}"#, vec![result("previous", r#"{"rows":[5],"title":"x"}"#)]));
    assert_eq!(said(&mut conn, "t3").await, r#""Sales: [5]""#, "given keys win");
    conn.deliver_lease(5, bound("t4", r#"{"rows":"rows"}"#, vec![]));
    assert!(said(&mut conn, "t4").await.contains("did not come"));
}

#[tokio::test]
async fn what_was_too_much_to_come_along_is_fetched() {
    let pages = answer(|request: pb::ListDependencyResultsRequest| async move {
        assert_eq!(request.job_id, "job-t1");
        let (results, next) = match request.page_token.as_str() {
            "" => (vec![result("rows", "1"), result("rows", "2")], "more"),
            _ => (vec![result("rows", "3")], ""),
        };
        Ok(pb::ListDependencyResultsResponse { results, next_page_token: next.to_owned() })
    });
    let mut server = serve(Answering { dependencies: pages, ..Answering::default() }).await;
    let worker = Worker::builder(Client::connect(&server.url).expect("a client")).handle(report);
    tokio::spawn(worker.run_until(std::future::pending()));
    let mut conn = connected(&mut server).await;
    let lease = bound("t1", r#"{"rows":"rows[]"}"#, vec![result("rows", "1")]);
    conn.deliver_lease(2, pb::JobLease { dependencies_truncated: true, ..lease });
    assert_eq!(said(&mut conn, "t1").await, r#""Sales: [1, 2, 3]""#);
}

#[tokio::test]
async fn batches_get_them_as_well() {
    let mut server = serve(Answering::default()).await;
    let client = Client::connect(&server.url).expect("a client");
    let worker = Worker::builder(client).handle_batch(2, mins(1), reports);
    tokio::spawn(worker.run_until(std::future::pending()));
    let mut conn = connected(&mut server).await;
    conn.deliver_lease(2, bound("t1", r#"{"rows":"rows"}"#, vec![result("rows", "[1]")]));
    conn.deliver_lease(3, bound("t2", r#"{"rows":"rows"}"#, vec![]));
    let mut seen = Vec::new();
    let both = |frame: &pb::StreamJobsRequest| {
        seen.extend(frame.outcomes.iter().cloned());
        (seen.len() == 2).then(|| std::mem::take(&mut seen)) // in one frame or in two
    };
    let mut outcomes = conn.until("both", both).await;
    outcomes.sort_by(|one, other| one.lease_token.cmp(&other.lease_token));
    let said: Vec<_> = outcomes.into_iter().map(read).collect();
    assert_eq!(said[0], r#""Sales: [1]""#);
    assert!(said[1].contains("did not come"), "it ends by itself: {}", said[1]);
}
