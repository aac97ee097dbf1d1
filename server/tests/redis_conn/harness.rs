//! What all of these tests need: a connection, calls on it, and waiting for a condition.
use std::{future::Future, time::Duration};

use jobwire_server::store::{
    StoreError,
    redis::{
        conn::{Conn, Script},
        push::Push,
        target::Target,
    },
};
use redis::Value;
use tokio::{
    sync::mpsc::Receiver,
    time::{Instant, sleep, timeout},
};

/// A failover and everything around it, on a busy machine.
pub const LONG: Duration = Duration::from_secs(60);

/// Writes a value and reads it back.
static ECHO: Script = Script::new("#!lua\nredis.call('SET', KEYS[1], ARGV[1])\nreturn redis.call('GET', KEYS[1])");

pub fn target(url: &str) -> Target {
    url.parse::<Target>()
        .and_then(|target| target.complete(None, None))
        .unwrap_or_else(|error| panic!("{url}: {error}"))
}

pub async fn open(url: &str) -> Conn {
    Conn::open(&target(url)).await.unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// The sentence with which a store on this target is refused.
pub async fn refused(target: &Target) -> String {
    match Conn::open(target).await {
        Err(StoreError::Refused(text)) => text,
        Err(error) => panic!("not refused but {error:?}"),
        Ok(_) => panic!("opened"),
    }
}

/// Why a target cannot be used for now.
pub async fn unavailable(url: &str) -> String {
    match Conn::open(&target(url)).await {
        Err(StoreError::Unavailable(text)) => text,
        Err(error) => panic!("not unavailable but {error:?}"),
        Ok(_) => panic!("opened"),
    }
}

/// A write and a read in one script.
pub async fn echo(conn: &Conn, key: &str, value: &str) -> Result<(), StoreError> {
    let answer = conn.eval(&ECHO, &[key.as_bytes()], &[value]).await?;
    assert_eq!(answer, Value::BulkString(value.into()));
    Ok(())
}

/// Writes until it succeeds. Every failure on the way must be an outage. Answers how long it took.
pub async fn echo_again(conn: &Conn, key: &str) -> Duration {
    let start = Instant::now();
    until("writes work again", async || match echo(conn, key, "again").await {
        Ok(()) => true,
        Err(StoreError::Unavailable(_)) => false,
        Err(error) => panic!("{error:?}"),
    })
    .await;
    start.elapsed()
}

pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + LONG;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {LONG:?}: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

pub async fn next(pushes: &mut Receiver<Push>) -> Push {
    timeout(LONG, pushes.recv()).await.expect("a push in time").expect("a push")
}

/// Publishes until it succeeds.
pub async fn publish(conn: &Conn, channel: &str, payload: &str) {
    until("a message is published", async || {
        let mut commands = redis::pipe();
        commands.cmd("SPUBLISH").arg(channel).arg(payload);
        conn.run(channel.as_bytes(), commands).await.is_ok()
    })
    .await;
}

/// Says something on a channel, again whenever it may have been missed, until it is heard. Skips what was said before.
pub async fn says_and_hears(conn: &Conn, pushes: &mut Receiver<Push>, channel: &str, payload: &str) {
    publish(conn, channel, payload).await;
    loop {
        match next(pushes).await {
            Push::Lost => publish(conn, channel, payload).await,
            Push::Message { channel: from, payload: what } if from == channel && what == payload => return,
            Push::Message { .. } => {}
        }
    }
}
