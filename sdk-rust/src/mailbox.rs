//! From handlers, on whatever thread, to the session: a list under a lock that the session takes whole. The reader says
//! how many events it can wait for, so that a burst of outcomes wakes it once.

use std::sync::Mutex;
use std::time::Duration;

use jobwire_proto::v1 as pb;
use tokio::sync::Notify;

use crate::context::RawCtx;
use crate::session::Token;

pub(crate) enum Event {
    /// A handler ended. No outcome: nothing is to be reported.
    Finished { token: Token, outcome: Option<Box<pb::Outcome>>, run: Duration },
    /// A handler has progress, a checkpoint or log lines to fetch.
    News(RawCtx),
    /// Nobody waits for this worker any more: cut the stream and end.
    Abandon,
}

#[derive(Default)]
pub(crate) struct Mailbox {
    letters: Mutex<Letters>,
    arrived: Notify,
}

#[derive(Default)]
struct Letters {
    events: Vec<Event>,
    /// Wake the reader at this many.
    patience: usize,
}

impl Mailbox {
    pub fn push(&self, event: Event) {
        let wake = {
            let mut letters = self.letters.lock().expect("no holder panics");
            let urgent = !matches!(event, Event::Finished { .. });
            letters.events.push(event);
            urgent || letters.events.len() == letters.patience
        };
        if wake {
            self.arrived.notify_one();
        }
    }

    /// Returns when `patience` events are there, or an urgent one. May return early. Cancel-safe.
    pub async fn wait(&self, patience: usize) {
        {
            let mut letters = self.letters.lock().expect("no holder panics");
            if letters.events.len() >= patience {
                return;
            }
            letters.patience = patience;
        }
        self.arrived.notified().await;
    }

    /// Takes everything; `into` has to be empty and its room is used again.
    pub fn take(&self, into: &mut Vec<Event>) {
        debug_assert!(into.is_empty());
        std::mem::swap(&mut self.letters.lock().expect("no holder panics").events, into);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn finished() -> Event {
        Event::Finished { token: Token::from("t"), outcome: None, run: Duration::ZERO }
    }

    #[test]
    fn the_reader_sleeps_until_its_patience_ends_or_something_urgent_comes() {
        let mailbox = Mailbox::default();
        let mut waiting = Box::pin(mailbox.wait(3));
        assert!(waiting.as_mut().now_or_never().is_none());
        mailbox.push(finished());
        mailbox.push(finished());
        assert!(waiting.as_mut().now_or_never().is_none());
        mailbox.push(finished());
        assert!(waiting.as_mut().now_or_never().is_some());
        let mut events = Vec::new();
        mailbox.take(&mut events);
        assert_eq!(events.len(), 3);
        events.clear();
        let mut waiting = Box::pin(mailbox.wait(3));
        assert!(waiting.as_mut().now_or_never().is_none());
        mailbox.push(Event::Abandon);
        assert!(waiting.as_mut().now_or_never().is_some());
    }

    #[test]
    fn what_came_before_the_wait_is_not_missed() {
        let mailbox = Mailbox::default();
        mailbox.push(finished());
        assert!(mailbox.wait(1).now_or_never().is_some());
    }
}
