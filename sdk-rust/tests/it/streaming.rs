//! EnqueueStream against a scripted server: its window, refusals, broken connections.

use std::collections::HashSet;

use futures::{SinkExt, StreamExt};
use jobwire::prelude::*;
use jobwire_proto::v1 as pb;
use tonic::Status;

use crate::script::{Answering, EnqueueConn, Script, serve, soon};

#[derive(Serialize, Deserialize)]
struct Tick(u32);

impl Task for Tick {
    const TYPE: &'static str = "tick";
    type Output = ();
}

async fn accepted(server: &mut Script, max_unacked: i32) -> EnqueueConn {
    let conn = soon("stream", server.producers.recv()).await.expect("a stream");
    conn.send(pb::EnqueueStreamResponse { max_unacked, ..Default::default() });
    conn
}

fn ids(frame: &pb::EnqueueStreamRequest) -> Vec<String> {
    frame.jobs.iter().map(|job| job.id.clone()).collect()
}

#[tokio::test]
async fn what_is_not_acknowledged_is_sent_again_with_the_same_ids() {
    let mut server = serve(Answering::default()).await;
    let client = Client::connect(&server.url).expect("a client");
    let (mut tasks, queue) = futures::channel::mpsc::channel(10);
    let answers = tokio::spawn(client.enqueue_stream(queue).collect::<Vec<_>>());
    tasks.send(Tick(1)).await.expect("room");
    let mut conn = accepted(&mut server, 2).await;
    let first = conn.recv().await;
    tasks.send(Tick(2)).await.expect("room");
    let second = conn.recv().await;
    assert_eq!((first.seq, second.seq), (1, 2));
    conn.send(pb::EnqueueStreamResponse { acked_seq: 1, job_ids: ids(&first), ..Default::default() });
    conn.end(Some(Status::unavailable("restart")));

    let mut conn = accepted(&mut server, 2).await;
    let again = conn.recv().await;
    assert_eq!((again.seq, ids(&again)), (1, ids(&second)));
    // The window is two frames: a third one waits for an acknowledgement.
    tasks.send(Tick(3)).await.expect("room");
    let third = conn.recv().await;
    tasks.send(Tick(4)).await.expect("room");
    tasks.close_channel();
    let refused = pb::EnqueueStreamError {
        seq: 2,
        index: 0,
        error: Some(pb::ItemError { code: 8, reason: "QUEUE_FULL".into(), ..Default::default() }),
    };
    let job_ids = [ids(&again), vec![String::new()]].concat();
    conn.send(pb::EnqueueStreamResponse { acked_seq: 2, job_ids, errors: vec![refused], ..Default::default() });
    let fourth = conn.recv().await;
    conn.send(pb::EnqueueStreamResponse { acked_seq: 3, job_ids: ids(&fourth), ..Default::default() });

    let answers = soon("answers", answers).await.expect("no panic");
    let got: Vec<String> = answers
        .into_iter()
        .map(|answer| answer.map_or_else(|error| error.reason().to_owned(), |job| job.id().to_owned()))
        .collect();
    let id = |frame| ids(frame).remove(0);
    assert_eq!(got, [id(&first), id(&second), "QUEUE_FULL".to_owned(), id(&fourth)]);
    assert_eq!(HashSet::from([id(&first), id(&second), id(&third), id(&fourth)]).len(), 4);
}

#[tokio::test]
async fn who_hears_nothing_is_answered_with_the_error_and_goes_on() {
    let mut server = serve(Answering::default()).await;
    let client = Client::builder().url(&server.url).timeout(millis(100)).build().expect("a client");
    let (mut tasks, queue) = futures::channel::mpsc::channel(10);
    let mut answers = client.enqueue_stream(queue);
    tasks.send(Tick(1)).await.expect("room");
    let refusing = async {
        loop {
            let conn = soon("stream", server.producers.recv()).await.expect("a stream");
            conn.end(Some(Status::unavailable("store is down")));
        }
    };
    let error = tokio::select! {
        answer = answers.next() => answer.expect("an answer").expect_err("unavailable"),
        () = refusing => unreachable!("it goes on for ever"),
    };
    assert_eq!(error.code(), Some(jobwire::Code::Unavailable));
    tasks.send(Tick(2)).await.expect("room");
    let accepting = async {
        let mut conn = accepted(&mut server, 1).await;
        let frame = conn.recv().await;
        conn.send(pb::EnqueueStreamResponse { acked_seq: 1, job_ids: ids(&frame), ..Default::default() });
        conn
    };
    let (answer, _conn) = soon("answer", async { tokio::join!(answers.next(), accepting) }).await;
    assert!(answer.expect("an answer").is_ok());
}
