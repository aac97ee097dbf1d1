//! What servers of one store tell each other. Lossy and of no account to correctness: whoever misses a note finds out by
//! looking. A note opens with a version byte and the server that wrote it; a version that is not known is ignored, so that
//! servers of two releases can share a store.
use serde::{Deserialize, Serialize};

use super::settle::Holder;
use crate::model::ids::{JobId, QueueName};

const VERSION: u8 = 1;

/// Names a server while it runs.
pub type ServerId = [u8; 16];

/// Appending a variant keeps the version; any other change takes a new one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Note {
    /// I am new: who listens, say so.
    Started,
    /// Somebody waits for jobs here: tell me what you touch, for a minute.
    Listening,
    /// These jobs changed.
    Touched(Vec<JobId>),
    /// A stream of this session was opened here, and the worker holds these jobs: older streams are over.
    Opened {
        session_id: String,
        held: Vec<JobId>,
    },
    Ask {
        number: u64,
        question: Question,
    },
    /// Whoever asks that number at that server.
    Answer {
        to: ServerId,
        number: u64,
        reply: Reply,
    },
    /// I am gone.
    Stopped,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// Who has these jobs in hand? With their queues, so that few workers need to be asked.
    Holders(Vec<(JobId, QueueName)>),
    /// What does this session hold? At most so many.
    Held { session_id: String, limit: usize },
}

/// Nobody answers what he does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    Holders(Vec<(JobId, Holder)>),
    Held(Vec<JobId>),
}

pub fn encode(from: &ServerId, note: &Note) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.extend_from_slice(from);
    postcard::to_extend(note, out).expect("a note always encodes")
}

/// `None`: of another version, or damaged.
pub fn decode(bytes: &[u8]) -> Option<(ServerId, Note)> {
    let (version, rest) = bytes.split_first()?;
    let (from, note) = rest.split_first_chunk::<16>()?;
    (*version == VERSION).then_some(())?;
    Some((*from, postcard::from_bytes(note).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::Shard;

    #[test]
    fn a_note_reads_back_and_what_is_not_known_is_ignored() {
        let id = JobId::stamp(uuid::Uuid::now_v7(), Shard(7));
        let queue: QueueName = "mail".parse().expect("a name");
        let holder = Holder { worker_id: "w".into(), session_id: "s".into() };
        for note in [
            Note::Started,
            Note::Listening,
            Note::Touched(vec![id]),
            Note::Stopped,
            Note::Opened { session_id: "s".into(), held: vec![id] },
            Note::Ask { number: 3, question: Question::Holders(vec![(id, queue)]) },
            Note::Answer { to: [2; 16], number: 3, reply: Reply::Holders(vec![(id, holder)]) },
        ] {
            let bytes = encode(&[9; 16], &note);
            assert_eq!(decode(&bytes), Some(([9; 16], note)));
            let mut newer = bytes.clone();
            newer[0] += 1;
            assert_eq!(decode(&newer), None);
        }
        let mut unknown = encode(&[9; 16], &Note::Started);
        unknown[17] = 200;
        assert_eq!(decode(&unknown), None, "a variant of a later release");
        assert_eq!(decode(&[1, 2, 3]), None);
    }
}
