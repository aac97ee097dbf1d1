//! Ports that stay ours while their server is down.
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::atomic::{AtomicU16, Ordering},
};

/// Below the ports that Linux gives to outgoing connections: nobody takes one by chance while its server is down.
const FIRST: u16 = 20_000;
const COUNT: u16 = 8_000;

/// A TCP port of the loopback interface. The UDP port of the same number is held to keep others of this kind away, in
/// this process and in any other, until it is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: UdpSocket,
}

impl Port {
    /// A free one.
    ///
    /// # Panics
    /// When there is none.
    pub fn free() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let start = (std::process::id() % u32::from(COUNT)) as u16;
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
            let number = FIRST + (start + step) % COUNT;
            let address = (Ipv4Addr::LOCALHOST, number);
            let Ok(claim) = UdpSocket::bind(address) else { continue };
            if TcpListener::bind(address).is_ok() {
                return Self { number, _claim: claim };
            }
        }
        panic!("no port between {FIRST} and {} is free", FIRST + COUNT);
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// On 127.0.0.1.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}
