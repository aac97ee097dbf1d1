//! Workers against a real server: leases, health, the job's log.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jobwire::prelude::*;
use jobwire::{Code, JobState, Payload, RawCtx};
use jobwire_server::testing::{TestServer, server};
use serde_json::json;

use crate::script::soon;

#[tokio::test]
async fn a_blocked_runtime_keeps_its_lease() {
    const LEASE: Duration = Duration::from_secs(1);
    let server = TestServer::builder().lease_ttl(LEASE).start().await;
    let client = Client::connect(server.url()).expect("a client");
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let worker = Worker::builder(client.clone()).handle_raw("block", move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        async {
            // Three leases long nothing else of this runtime turns.
            std::thread::sleep(3 * LEASE);
            Ok(Payload::json_text("true"))
        }
    });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let user = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(worker.run_until(async { drop(stopped.await) }))
    });
    let job = client.enqueue_raw("block", &json!({})).await.expect("a job");
    assert_eq!(soon("result", job.result().into_future()).await.expect("done"), json!(true));
    let info = job.status().await.expect("a record");
    assert_eq!((info.delivery, info.crashes, runs.load(Ordering::SeqCst)), (1, 0, 1));
    drop(stop);
    tokio::task::spawn_blocking(move || user.join()).await.expect("no panic").expect("no panic").expect("a clean end");
}

/// Status line and body.
async fn get(address: SocketAddr, path: &'static str) -> (String, String) {
    let call = move || {
        let mut stream = TcpStream::connect(address).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
    };
    tokio::task::spawn_blocking(call).await.expect("no panic")
}

async fn becomes(address: SocketAddr, path: &'static str, code: &str) {
    soon(path, async {
        while !get(address, path).await.0.contains(code) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn probes_and_scrapers_are_answered() {
    let server = server().await;
    let client = Client::connect(server.url()).expect("a client");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (go, gate) = tokio::sync::watch::channel(false);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let worker =
        Worker::builder(client.clone()).concurrency(7).health(listener).handle_raw("mail.*", move |ctx: RawCtx| {
            let mut gate = gate.clone();
            async move {
                if ctx.job_type() == "mail.slow" {
                    gate.wait_for(|open| *open).await?;
                }
                Ok(Payload::default())
            }
        });
    let run = tokio::spawn(worker.queue("mail").run_until(async { drop(stopped.await) }));
    becomes(address, "/readyz", "200").await;
    assert!(get(address, "/livez").await.0.contains("200"));
    assert!(get(address, "/other").await.0.contains("404"));
    let enqueue = |r#type: &str| client.enqueue_raw(r#type, &json!({})).queue("mail").into_future();
    soon("result", enqueue("mail.send").await.expect("a job").result().into_future()).await.expect("done");
    let slow = enqueue("mail.slow").await.expect("a job");
    let metric = async |line: &str| get(address, "/metrics").await.1.lines().any(|found| found == line);
    soon("running", async { while !metric("jobwire_worker_running 1").await {} }).await;
    assert!(metric("jobwire_worker_slots 7").await);
    assert!(metric(r#"jobwire_worker_jobs_total{type="mail.*",outcome="succeeded"} 1"#).await);
    assert!(metric("jobwire_client_reconnects_total 0").await);
    stop.send(()).expect("it runs");
    becomes(address, "/readyz", "503").await;
    go.send(true).expect("it waits");
    soon("result", slow.result().into_future()).await.expect("done");
    soon("end", run).await.expect("no panic").expect("a clean end");
    assert!(TcpStream::connect(address).is_err(), "the endpoint ends with the worker");
}

#[tokio::test]
async fn a_health_port_in_use_is_said_at_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let worker = Worker::builder(Client::connect("jobwire://127.0.0.1:1").expect("a client")).health(port);
    let error = worker.handle_raw("any", |_| async { Ok(Payload::default()) }).run().await.expect_err("taken");
    assert!(error.to_string().contains(&port.to_string()), "{error}");
    assert_eq!(error.code(), Some(Code::InvalidArgument));
}

#[tokio::test]
async fn a_lease_is_at_risk_while_the_server_is_away() {
    let lease = Duration::from_secs(1);
    let server = TestServer::builder().lease_ttl(lease).start().await;
    let client = Client::connect(server.url()).expect("a client");
    let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
    let worker = Worker::builder(client.clone()).handle_raw("long", move |ctx: RawCtx| {
        let told = told.clone();
        async move {
            told.send(ctx.lease_at_risk()).expect("the test listens");
            while !ctx.lease_at_risk() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            told.send(true).expect("the test listens");
            Ok(Payload::default())
        }
    });
    let run = tokio::spawn(worker.run_until(std::future::pending()));
    client.enqueue_raw("long", &json!({})).await.expect("a job");
    assert_eq!(soon("start", tells.recv()).await, Some(false));
    drop(server);
    assert_eq!(soon("risk", tells.recv()).await, Some(true));
    run.abort();
}

#[tokio::test]
async fn jobs_enqueued_with_an_outcome_exist_with_it() {
    let server = server().await;
    let client = Client::connect(server.url()).expect("a client");
    #[derive(Serialize, Deserialize)]
    struct Child(i32);
    impl Task for Child {
        const TYPE: &'static str = "child";
        type Output = ();
    }
    let worker = Worker::builder(client.clone()).queue("parent").handle_raw("parent", |ctx: RawCtx| async move {
        ctx.enqueue(Child(1)).tag("kept").always()?;
        ctx.enqueue(Child(2)).tag("dropped").on_success()?;
        ctx.save_checkpoint(&json!({"step": ctx.attempt()}))?;
        Err(JobError::non_retryable("no"))
    });
    let run = tokio::spawn(worker.run_until(std::future::pending()));
    let parent = client.enqueue_raw("parent", &json!({})).await.expect("a job");
    let error = soon("result", parent.result().into_future()).await.expect_err("it fails");
    assert!(matches!(error, Error::JobFailed { state: JobState::Dead, .. }), "{error}");
    let (done, mut children) = tokio::sync::mpsc::unbounded_channel();
    let worker = Worker::builder(client.clone()).handle_raw("child", move |ctx: RawCtx| {
        done.send((ctx.tags().to_vec(), ctx.parent_id().to_owned())).expect("the test listens");
        async { Ok(Payload::default()) }
    });
    let other = tokio::spawn(worker.run_until(std::future::pending()));
    let (tags, parent_id) = soon("child", children.recv()).await.expect("a child");
    assert_eq!((tags, parent_id.as_str()), (vec!["kept".to_owned()], parent.id()));
    run.abort();
    other.abort();
}
