//! Out of file descriptors. Alone in its file, because it uses up those of the whole process.
use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use jobwire_server::listen::{self, Settings};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const LONG: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_descriptors_connections_wait_without_a_spinning_server() {
    let tcp = listen::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
    let address = tcp.local_addr().expect("a bound address");
    let settings = Settings { max_connections: 100, max_streams: 10, handshake_timeout: LONG };
    let router = axum::Router::new().route("/", axum::routing::get(|| async { "served" }));
    let running = listen::http(tcp, &settings, router);
    let stats = running.stats();

    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum }).expect("a lower limit");
    let mut fillers: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    fillers.pop().expect("some were free");
    let mut client = TcpStream::connect(address).expect("the kernel accepts with the last descriptor");
    let started = Instant::now();
    while stats.accept_errors() < 5 {
        assert!(started.elapsed() < LONG, "accept does not fail");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Pauses of 20, 40, 80 and 160 ms lie between five errors.
    assert!(started.elapsed() >= Duration::from_millis(280), "accept spins: {:?}", started.elapsed());

    drop(fillers);
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("written");
    let answer = tokio::task::spawn_blocking(move || {
        let mut answer = String::new();
        client.read_to_string(&mut answer).map(|_| answer)
    });
    let answer = answer.await.expect("no panic").expect("read");
    assert!(answer.ends_with("served"), "{answer}");
}
