//! A connection that loses answers.
use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    thread,
};

/// A proxy in front of one Redis. What clients say always arrives; of the answers it swallows some and cuts the
/// connection: the call was carried out, and nobody knows.
#[derive(Debug)]
pub struct Lossy {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    every: AtomicU32,
    seen: AtomicU32,
    lost: AtomicU32,
    over: AtomicBool,
}

impl Lossy {
    /// In front of `target`; loses nothing yet.
    ///
    /// # Panics
    /// When no port is free.
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(State::default());
        let shared = state.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                if shared.over.load(Relaxed) {
                    return;
                }
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(target)) else { continue };
                carry(client, server, &shared);
            }
        });
        Self { address, state }
    }

    /// `redis://127.0.0.1:PORT`, through the proxy.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// From now on one piece of answer in `every` is lost; 0 = none.
    pub fn lose_one_in(&self, every: u32) {
        self.state.every.store(every, Relaxed);
    }

    /// Answers lost so far.
    pub fn lost(&self) -> u32 {
        self.state.lost.load(Relaxed)
    }
}

impl Drop for Lossy {
    fn drop(&mut self) {
        self.state.over.store(true, Relaxed);
        // Wakes the one who accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn carry(client: TcpStream, server: TcpStream, state: &Arc<State>) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (Ok(mut from_client), Ok(mut to_server)) = (client.try_clone(), server.try_clone()) else { return };
    thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Both);
    });
    let state = state.clone();
    thread::spawn(move || {
        answers(&client, &server, &state);
        let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
    });
}

/// Hands answers on until one is lost or the connection ends.
fn answers(mut client: &TcpStream, mut server: &TcpStream, state: &State) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = server.read(&mut buffer) {
        let every = state.every.load(Relaxed);
        if every > 0 && (state.seen.fetch_add(1, Relaxed) + 1).is_multiple_of(every) {
            state.lost.fetch_add(1, Relaxed);
            return;
        }
        if client.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}
