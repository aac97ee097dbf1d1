//! The state table as data: who may go where. Numbers are those of the contract's `JobState`.
use serde::{Deserialize, Serialize};

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum State {
    Scheduled = 1,
    Blocked = 2,
    Ready = 3,
    Running = 4,
    Retrying = 5,
    Succeeded = 6,
    Dead = 7,
    Cancelled = 8,
    Expired = 9,
    Discarded = 10,
}

impl State {
    pub const ALL: [Self; 10] = [
        Self::Scheduled,
        Self::Blocked,
        Self::Ready,
        Self::Running,
        Self::Retrying,
        Self::Succeeded,
        Self::Dead,
        Self::Cancelled,
        Self::Expired,
        Self::Discarded,
    ];

    /// Ended, for good but for RetryJobs.
    pub const fn is_terminal(self) -> bool {
        StateSet::TERMINAL.has(self)
    }

    /// Short upper-case name, as in filters: `DEAD`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "SCHEDULED",
            Self::Blocked => "BLOCKED",
            Self::Ready => "READY",
            Self::Running => "RUNNING",
            Self::Retrying => "RETRYING",
            Self::Succeeded => "SUCCEEDED",
            Self::Dead => "DEAD",
            Self::Cancelled => "CANCELLED",
            Self::Expired => "EXPIRED",
            Self::Discarded => "DISCARDED",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name().eq_ignore_ascii_case(name))
    }
}

/// A set of states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateSet(u16);

impl StateSet {
    pub const EMPTY: Self = Self(0);
    pub const TERMINAL: Self =
        Self::of(&[State::Succeeded, State::Dead, State::Cancelled, State::Expired, State::Discarded]);
    /// Neither running nor terminal.
    pub const WAITING: Self = Self::of(&[State::Scheduled, State::Blocked, State::Ready, State::Retrying]);
    pub const RUNNING: Self = Self::of(&[State::Running]);
    pub const ANY: Self = Self::WAITING.or(Self::RUNNING).or(Self::TERMINAL);

    pub const fn of(states: &[State]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < states.len() {
            bits |= 1 << states[i] as u16;
            i += 1;
        }
        Self(bits)
    }

    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn has(self, state: State) -> bool {
        self.0 & (1 << state as u16) != 0
    }

    pub fn iter(self) -> impl Iterator<Item = State> {
        State::ALL.into_iter().filter(move |state| self.has(*state))
    }
}

/// The kinds of change a store knows, without their contents: the columns of the state table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Move {
    Claim,
    Extend,
    Finish(State),
    Later(State),
    /// Back to READY: given back, promoted, or the lease ran out.
    Ready,
    /// RetryJobs: READY or SCHEDULED again.
    Requeue,
    RequestCancel,
    Patch,
    /// Back to BLOCKED.
    Block,
    Watch,
    Delete,
}

/// From which states a move may start. READY is among those of a lease's moves because the latest lease of a READY job
/// may have run out without another one having been issued: late work counts.
pub const fn sources(event: Move) -> StateSet {
    const LEASED: StateSet = StateSet::of(&[State::Running, State::Ready]);
    match event {
        Move::Claim => StateSet::of(&[State::Ready]),
        Move::Extend => LEASED,
        Move::Finish(State::Succeeded | State::Dead | State::Discarded) => LEASED.or(StateSet::of(&[State::Blocked])),
        Move::Finish(State::Cancelled | State::Expired) => StateSet::WAITING.or(StateSet::RUNNING),
        Move::Later(State::Scheduled | State::Retrying) => LEASED,
        Move::Finish(_) | Move::Later(_) => StateSet::EMPTY,
        Move::Ready => LEASED.or(StateSet::of(&[State::Scheduled, State::Retrying, State::Blocked])),
        Move::Requeue => StateSet::TERMINAL.or(StateSet::of(&[State::Scheduled, State::Retrying])),
        Move::RequestCancel => StateSet::RUNNING,
        Move::Patch => StateSet::WAITING,
        Move::Block => StateSet::of(&[State::Cancelled]),
        Move::Watch | Move::Delete => StateSet::ANY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_state_is_left_only_by_a_retry_a_revival_or_a_delete() {
        for state in StateSet::TERMINAL.iter() {
            for event in [
                Move::Claim,
                Move::Extend,
                Move::Finish(State::Succeeded),
                Move::Finish(State::Cancelled),
                Move::Later(State::Retrying),
                Move::Ready,
                Move::RequestCancel,
                Move::Patch,
            ] {
                assert!(!sources(event).has(state), "{event:?} from {state:?}");
            }
            assert!(sources(Move::Requeue).has(state));
            assert!(sources(Move::Delete).has(state));
        }
    }

    #[test]
    fn names_read_back() {
        for state in State::ALL {
            assert_eq!(State::from_name(state.name()), Some(state));
        }
        assert_eq!(State::from_name("PAUSED"), None);
    }
}
