//! What the suite for all stores cannot reach: states that no call makes yet, records that contradict each other, and
//! what is handed to the owner.
use super::{
    codec::Encoder,
    machine::Machine,
    slab::Slab,
    write::{Key, Output, Table, Write},
};
use crate::store::slot::{Slot, Stamp, flag};
use crate::{
    model::{
        ids::{JobId, Name, Shard},
        job::{Outcome, Start},
        op::{Act, Claim, Guard, NewJob, Op, Verdict, Wake},
        state::{Move, State, StateSet, sources},
        time::Now,
    },
    store::memory::codec::{NameRecord, write_name},
};

const NOW: Now = Now { wall_ms: 1_764_000_000_000, mono_ms: 50_000 };

fn name(text: &str) -> Name {
    text.parse().expect("a valid name")
}

fn id(n: u128) -> JobId {
    JobId::stamp(uuid::Uuid::from_u128(n), Shard(0))
}

fn job(n: u128) -> NewJob {
    NewJob {
        id: id(n),
        kind: name("send"),
        queue: name("mail"),
        priority: 0,
        start: Start::Now,
        expire_ms: 0,
        deadline_ms: 0,
        create_ms: NOW.wall_ms,
        content: 1,
        unique: None,
        idempotency: None,
        fair: 0,
        overshoots: false,
        blocked: false,
        owner: None,
        body: "body".into(),
    }
}

fn waiting(n: u128, state: State) -> Slot {
    Slot {
        id: id(n),
        row: Stamp::new(n as i64),
        order: n as i64,
        token: 0,
        content: 0,
        fair: 0,
        extra: None,
        create: Stamp::new(1),
        ready: Stamp::new(1),
        start: Stamp::default(),
        finish: Stamp::default(),
        until: Stamp::default(),
        queue: 0,
        kind: 0,
        version: 1,
        failures: 0,
        delivery: 0,
        body_bytes: 4,
        state,
        priority: 0,
        flags: 0,
    }
}

fn meta_key(row: u64) -> Key {
    Key::Job { table: Table::Meta, row, sub: 0 }
}

/// A machine with jobs that come from records.
fn loaded(slots: &[Slot]) -> Machine {
    let mut machine = Machine::new();
    let mut encoder = Encoder::default();
    for slot in slots {
        machine.load(meta_key(slot.row.get() as u64), &encoder.meta(slot)).expect("it was just written");
    }
    for key in ["queue/mail", "type/send"] {
        let record = write_name(&NameRecord::new(0));
        machine.load(Key::Named(key.to_owned()), &record).expect("it was just written");
    }
    machine.loaded(NOW, 30_000).expect("the records fit together");
    machine
}

fn apply(machine: &mut Machine, id: JobId, guard: Guard, act: Act) -> (Verdict, Output) {
    let mut out = Output::default();
    let verdict = machine.apply(NOW, vec![Op { id, guard, act }], &mut out).remove(0);
    assert_eq!(machine.recount(), Vec::<String>::new());
    (verdict, out)
}

fn claim(machine: &mut Machine, secrets: Vec<u64>, out: &mut Output) -> Vec<JobId> {
    let claim = Claim { queue: name("mail"), secrets, from_bottom: 0, bytes: 1_000, lease_ms: 10_000, started: false };
    let granted = machine.claim(NOW, &claim, out).jobs;
    granted.into_iter().map(|granted| granted.found.meta.id).collect()
}

#[test]
fn a_blocked_job_obeys_the_table() {
    let finish = |to| Act::Finish { to, outcome: Outcome::default(), retain_ms: 0, effects: Vec::new() };
    let mut acts: Vec<Act> = State::ALL.map(finish).to_vec();
    acts.extend([
        Act::Ready { front: false, crashed: false, attempt: None, checkpoint: None },
        Act::Requeue { failures: 0, delay_ms: 0, queue: None, body: None, keep: None },
        Act::RequestCancel { reason: String::new(), grace_ms: None },
        Act::Extend { lease_ms: 1, started: false, progress: None, checkpoint: None },
        Act::Patch { queue: None, priority: Some(1), start: Some(Start::Now), body: None, content: None },
        Act::Delete,
    ]);
    for act in acts {
        let mut machine = loaded(&[waiting(1, State::Blocked)]);
        assert!(claim(&mut machine, vec![1], &mut Output::default()).is_empty());
        let legal = sources(act.kind()).has(State::Blocked);
        let (verdict, out) = apply(&mut machine, id(1), Guard::In(StateSet::of(&[State::Blocked])), act.clone());
        match verdict {
            Verdict::Done(facts) => {
                assert!(legal, "{act:?}");
                let expected = match act.kind() {
                    Move::Finish(to) => to,
                    Move::Ready => State::Ready,
                    _ => State::Blocked,
                };
                assert_eq!(facts.state, expected, "{act:?}");
                let woken = out.wakes.contains(&Wake::Ready(name("mail")));
                assert_eq!(woken, expected == State::Ready, "{act:?}");
            }
            Verdict::Conflict(State::Blocked) => assert!(!legal, "{act:?}"),
            other => panic!("{act:?} gave {other:?}"),
        }
    }
}

#[test]
fn contradictions_are_refused_with_the_record_named() {
    let mut encoder = Encoder::default();
    let slot = waiting(1, State::Ready);
    let bytes = encoder.meta(&slot);

    let mut machine = Machine::new();
    machine.load(meta_key(1), &bytes).expect("it was just written");
    let twice = machine.load(meta_key(2), &bytes).expect_err("two jobs with one id");
    assert!(twice.0.contains("job record 2") && twice.0.contains("job record 1"), "{twice}");
    let nameless = machine.loaded(NOW, 1).expect_err("its queue has no name");
    assert!(nameless.0.contains("queue number 0"), "{nameless}");

    let mut machine = Machine::new();
    let named = |machine: &mut Machine, key: &str, number| {
        machine.load(Key::Named(key.to_owned()), &write_name(&NameRecord::new(number)))
    };
    named(&mut machine, "queue/mail", 1).expect("a queue");
    let same = named(&mut machine, "queue/post", 1).expect_err("the number is taken");
    assert!(same.0.contains("queue/post"), "{same}");
    let gap = machine.loaded(NOW, 1).expect_err("number 0 has no name");
    assert!(gap.0.contains("number 0"), "{gap}");
    for key in ["queue/ä", "pigeon/x", ""] {
        assert!(named(&mut Machine::new(), key, 0).is_err(), "{key}");
    }
    assert!(named(&mut Machine::new(), "queue/mail", u32::MAX).is_err(), "absurd numbers allocate nothing");
    assert!(Machine::new().load(Key::Named("doc/x".to_owned()), &[1]).is_err());
}

#[test]
fn what_is_kept_of_a_life() {
    let mut machine = Machine::new();
    let mut out = Output::default();
    machine.put(NOW, vec![job(1)], &mut out);
    let keys = |out: &Output| -> Vec<Key> {
        let key = |write: &Write| match write {
            Write::Set(key, _) => key.clone(),
            other => panic!("{other:?}"),
        };
        out.writes.iter().map(key).collect()
    };
    let of = |table| Key::Job { table, row: 0, sub: 0 };
    let named = |key: &str| Key::Named(key.to_owned());
    assert_eq!(keys(&out), [named("queue/mail"), named("type/send"), of(Table::Body), of(Table::Meta)]);

    let mut out = Output::default();
    claim(&mut machine, vec![5], &mut out);
    assert_eq!(keys(&out), [of(Table::Meta)], "a claim is kept");

    let extend = Act::Extend { lease_ms: 30_000, started: false, progress: None, checkpoint: None };
    let (verdict, out) = apply(&mut machine, id(1), Guard::Token(5), extend);
    assert!(matches!(verdict, Verdict::Done(_)));
    assert!(out.writes.is_empty(), "a renewal is not");

    let finish = Act::Finish { to: State::Succeeded, outcome: Outcome::default(), retain_ms: 0, effects: Vec::new() };
    let (_, out) = apply(&mut machine, id(1), Guard::Token(5), finish.clone());
    assert_eq!(keys(&out), [of(Table::Meta)], "an outcome that says nothing has no record");
    let (_, out) = apply(&mut machine, id(1), Guard::Token(5), finish);
    assert!(out.writes.is_empty(), "a repeat changes nothing");

    let (_, out) = apply(&mut machine, id(1), Guard::In(StateSet::ANY), Act::Delete);
    assert!(matches!(out.writes[..], [Write::Forget { row: 0, .. }]));
}

#[test]
fn every_running_job_gets_a_fresh_lease() {
    let mut running = waiting(1, State::Running);
    running.flags = flag::LEASED | flag::STARTED;
    running.token = 77;
    running.delivery = 1;
    let mut machine = loaded(&[running, waiting(2, State::Ready)]);
    assert_eq!(machine.due(NOW, 9).next_in_ms, Some(30_000));
    let extend = Act::Extend { lease_ms: 40_000, started: false, progress: None, checkpoint: None };
    let (verdict, _) = apply(&mut machine, id(1), Guard::Token(77), extend);
    assert!(matches!(verdict, Verdict::Done(_)), "it keeps its token");
    // What comes next comes last.
    machine.put(NOW, vec![job(3)], &mut Output::default());
    assert_eq!(claim(&mut machine, vec![1, 2, 3], &mut Output::default()), [id(2), id(3)]);
}

#[test]
fn rows_and_slots_are_not_mixed_up() {
    let mut machine = Machine::new();
    machine.put(NOW, (1..=3).map(job).collect(), &mut Output::default());
    apply(&mut machine, id(2), Guard::In(StateSet::ANY), Act::Delete);
    machine.put(NOW, vec![job(4)], &mut Output::default());
    let rows: Vec<u64> = [1, 3, 4].map(|n| machine.find(id(n)).expect("it is there").row).to_vec();
    assert_eq!(rows, [0, 2, 3], "a row is never used again while the process lives");
    assert_eq!(Slab::default().len(), 0);
}
