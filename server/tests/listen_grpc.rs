//! The gRPC listener against clients that behave, and clients that do not.
use std::{net::SocketAddr, sync::Arc, time::Duration};

use jobwire_server::listen::{self, Refused, Running, Settings, Stats};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

const LONG: Duration = Duration::from_secs(30);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn settings() -> Settings {
    Settings { max_connections: 1_000, max_streams: 100, handshake_timeout: LONG }
}

async fn start(settings: Settings) -> (Running, SocketAddr) {
    let tcp = listen::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
    let address = tcp.local_addr().expect("a bound address");
    let (_, health) = tonic_health::server::health_reporter();
    let routes = tonic::service::Routes::new(health).prepare();
    (listen::grpc(tcp, &settings, "Health is elsewhere.".to_owned(), routes), address)
}

async fn client(address: SocketAddr) -> HealthClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URL");
    HealthClient::new(endpoint.connect().await.expect("connects"))
}

fn request() -> HealthCheckRequest {
    HealthCheckRequest { service: String::new() }
}

async fn until(stats: &Arc<Stats>, what: impl Fn(&Stats) -> bool) {
    timeout(LONG, async {
        while !what(stats) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .expect("the condition holds in time");
}

/// Reads until the server hangs up.
async fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end, too.
    let _ = timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("the server hangs up");
    bytes
}

#[tokio::test]
async fn calls_are_answered_and_a_drain_of_idle_connections_is_quick() {
    let (running, address) = start(settings()).await;
    let mut client = client(address).await;
    let status = client.check(request()).await.expect("answered").into_inner().status;
    assert_eq!(status, 1);
    assert_eq!(running.stats().open(), 1);
    let cut = timeout(LONG, running.drain(Instant::now() + 2 * LONG)).await.expect("no waiting for the deadline");
    assert_eq!(cut, 0);
    assert!(client.check(request()).await.is_err());
}

#[tokio::test]
async fn a_connection_that_says_nothing_or_too_little_is_cut() {
    let (running, address) = start(Settings { handshake_timeout: Duration::from_millis(100), ..settings() }).await;
    let mut silent = TcpStream::connect(address).await.expect("connects");
    let mut slow = TcpStream::connect(address).await.expect("connects");
    slow.write_all(&PREFACE[..10]).await.expect("written");
    assert_eq!(read_all(&mut silent).await, b"");
    assert_eq!(read_all(&mut slow).await, b"");
    until(&running.stats(), |stats| stats.open() == 0 && stats.refused(Refused::Handshake) == 2).await;
}

#[tokio::test]
async fn a_preface_in_pieces_is_fine() {
    let (_running, address) = start(settings()).await;
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream.set_nodelay(true).expect("set");
    for piece in PREFACE.chunks(5) {
        stream.write_all(piece).await.expect("written");
        tokio::task::yield_now().await;
    }
    // An empty SETTINGS frame; the server's own comes back.
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("written");
    let mut head = [0; 9];
    timeout(LONG, stream.read_exact(&mut head)).await.expect("in time").expect("a frame");
    assert_eq!(head[3], 4, "SETTINGS");
}

#[tokio::test]
async fn http1_gets_a_sentence_and_tls_a_hangup() {
    let (running, address) = start(settings()).await;
    let mut browser = TcpStream::connect(address).await.expect("connects");
    browser.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("written");
    let mut answer = vec![0; 4_096];
    let length = timeout(LONG, browser.read(&mut answer)).await.expect("in time").expect("an answer");
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.ends_with("This port speaks gRPC, over HTTP/2 without TLS. Health is elsewhere.\n"), "{answer}");
    drop(browser);

    let mut tls = TcpStream::connect(address).await.expect("connects");
    tls.write_all(&[0x16, 3, 1, 0, 200]).await.expect("written");
    assert_eq!(read_all(&mut tls).await, b"");
    until(&running.stats(), |stats| stats.open() == 0).await;
    assert_eq!(running.stats().refused(Refused::Protocol), 2);
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline_whatever_is_open() {
    let (running, address) = start(settings()).await;
    let mut streaming = client(address).await;
    let mut watch = streaming.watch(request()).await.expect("a stream").into_inner();
    watch.message().await.expect("a message").expect("the status now");
    // One that has said nothing at all, and one that stops after the preface.
    let _silent = TcpStream::connect(address).await.expect("connects");
    let mut stuck = TcpStream::connect(address).await.expect("connects");
    stuck.write_all(PREFACE).await.expect("written");
    until(&running.stats(), |stats| stats.open() == 3).await;

    let cut = timeout(LONG, running.drain(Instant::now() + Duration::from_millis(300))).await.expect("at the deadline");
    assert!((1..=2).contains(&cut), "the stream, and perhaps the stuck one: {cut}");
    assert_eq!(running.stats().open(), 0);
    assert!(watch.message().await.is_err(), "the stream broke");
}

#[tokio::test]
async fn closing_stops_new_connections_and_keeps_the_old() {
    let (running, address) = start(settings()).await;
    let mut client = client(address).await;
    client.check(request()).await.expect("answered");
    running.close();
    timeout(LONG, async { while TcpStream::connect(address).await.is_ok() {} }).await.expect("the port is closed");
    client.check(request()).await.expect("still answered");
}

#[tokio::test]
async fn the_connection_beyond_the_cap_is_told_and_the_next_one_fits_again() {
    let (running, address) = start(Settings { max_connections: 2, ..settings() }).await;
    let mut first = client(address).await;
    first.check(request()).await.expect("answered");
    let second = client(address).await;
    let mut refused = TcpStream::connect(address).await.expect("the kernel accepts");
    let answer = read_all(&mut refused).await;
    assert!(String::from_utf8_lossy(&answer).ends_with("too many connections"), "{answer:?}");
    assert_eq!(running.stats().refused(Refused::Limit), 1);
    first.check(request()).await.expect("those inside do not notice");

    drop(second);
    until(&running.stats(), |stats| stats.open() == 1).await;
    client(address).await.check(request()).await.expect("there is room again");
}

#[tokio::test]
async fn streams_beyond_the_limit_of_a_connection_wait() {
    let (_running, address) = start(Settings { max_streams: 2, ..settings() }).await;
    let mut first = client(address).await;
    let mut second = first.clone();
    let mut third = first.clone();
    first.check(request()).await.expect("answered, and the server's settings are known");
    let _one = first.watch(request()).await.expect("a stream");
    let two = second.watch(request()).await.expect("a stream");
    let waiting = tokio::spawn(async move { third.check(request()).await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(two);
    timeout(LONG, waiting).await.expect("in time").expect("no panic").expect("answered");
}

#[tokio::test]
async fn many_connections_are_served_at_once() {
    const MANY: usize = 200;
    let (running, address) = start(settings()).await;
    let mut clients = Vec::new();
    for _ in 0..MANY {
        clients.push(client(address).await);
    }
    let calls = clients.iter_mut().map(|client| client.check(request()));
    for answer in futures::future::join_all(calls).await {
        answer.expect("answered");
    }
    assert_eq!(running.stats().open(), MANY as u64);
    assert_eq!(timeout(LONG, running.drain(Instant::now() + LONG)).await.expect("in time"), 0);
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let (_running, address) = start(settings()).await;
    let error = listen::bind(address).await.expect_err("taken").to_string();
    assert!(error.contains(&address.to_string()) && error.contains("choose another port"), "{error}");
}
