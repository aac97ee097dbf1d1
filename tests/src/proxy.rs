//! A TCP proxy whose connections can be cut.
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

/// A proxy in front of one address. Ends, with its connections, when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    current: Arc<Mutex<CancellationToken>>,
    connections: TaskTracker,
    _task: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Forwards everything to `target`.
    pub async fn to(target: SocketAddr) -> Self {
        Self::start(target, None).await
    }

    /// Cuts each connection once `bytes` bytes of the client have been handed on; the rest never arrives.
    pub async fn cutting_after(target: SocketAddr, bytes: usize) -> Self {
        Self::start(target, Some(bytes)).await
    }

    async fn start(target: SocketAddr, limit: Option<usize>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let current = Arc::new(Mutex::new(CancellationToken::new()));
        let (tokens, connections) = (current.clone(), TaskTracker::new());
        let tracker = connections.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let cut = tokens.lock().expect("no panic in between").clone();
                tracker.spawn(async move {
                    tokio::select! {
                        () = carry(client, target, limit) => {}
                        () = cut.cancelled() => {}
                    }
                });
            }
        });
        Self { address, current, connections, _task: AbortOnDropHandle::new(task) }
    }

    /// Cuts every connection that is open, and returns when they are closed. New ones are welcome.
    pub async fn cut(&self) {
        self.cancel();
        self.connections.close();
        self.connections.wait().await;
        self.connections.reopen();
    }

    fn cancel(&self) {
        let mut current = self.current.lock().expect("no panic in between");
        std::mem::replace(&mut *current, CancellationToken::new()).cancel();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// Returns, and so closes both sides, when one side has closed or the limit is reached.
async fn carry(client: TcpStream, target: SocketAddr, limit: Option<usize>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::select! {
        _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
        () = hand_on(&mut from_client, &mut to_server, limit.unwrap_or(usize::MAX)) => {}
    }
}

async fn hand_on(from: &mut OwnedReadHalf, to: &mut (impl tokio::io::AsyncWrite + Unpin), mut left: usize) {
    let mut buffer = vec![0; 16 << 10];
    while left > 0 {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        let take = read.min(left);
        if to.write_all(&buffer[..take]).await.is_err() {
            return;
        }
        left -= take;
    }
}
