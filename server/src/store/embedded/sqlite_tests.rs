//! The SQLite log by itself: what a power cut, a flipped bit or a full disk may do to it. Every image of the files that a
//! fault leaves behind either opens as the state after some commit, no older than the last one that was acknowledged,
//! or is refused.
use std::{collections::BTreeMap, fs, path::Path};

use bytes::Bytes;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tempfile::TempDir;

use super::{
    changes::Changes,
    mark::{self, Mark},
    record_log::{CommitError, Found, RecordLog as _, Safety, SideKey},
    schema::{self, TABLES, has_subs},
    sqlite::{FILE, SqliteLog},
};
use crate::store::{
    StoreError,
    memory::write::{Key, Sides, Table, Write},
};

/// What the log should hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    jobs: BTreeMap<SideKey, Bytes>,
    named: BTreeMap<String, Bytes>,
    next_row: u64,
}

const EVERYTHING: Sides = Sides { outcome: true, attempts: true, progress: true, checkpoint: true, log: true };

impl Model {
    fn apply(&mut self, writes: &[Write]) {
        for write in writes {
            match write.clone() {
                Write::Set(Key::Job { table, row, sub }, value) => drop(self.jobs.insert((table, row, sub), value)),
                Write::Remove(Key::Job { table, row, sub }) => drop(self.jobs.remove(&(table, row, sub))),
                Write::Set(Key::Named(name), value) => drop(self.named.insert(name, value)),
                Write::Remove(Key::Named(name)) => drop(self.named.remove(&name)),
                Write::Forget { row, .. } => self.jobs.retain(|key, _| key.1 != row),
            }
        }
    }

    /// Writes as the machine makes them: a job begins with its body and its record and ends by being forgotten.
    fn some_writes(&mut self, rng: &mut StdRng) -> Vec<Write> {
        let mut writes = Vec::new();
        for _ in 0..rng.random_range(1..20) {
            let live: Vec<u64> = self.jobs.keys().filter(|key| key.0 == Table::Meta).map(|key| key.1).collect();
            let row = if live.is_empty() { 0 } else { live[rng.random_range(0..live.len())] };
            let some = |rng: &mut StdRng, most: usize| -> Bytes {
                (0..rng.random_range(0..most)).map(|_| rng.random::<u8>()).collect()
            };
            let key = |table, row, sub| Key::Job { table, row, sub };
            let more = match rng.random_range(0..10) {
                0..4 => {
                    let row = self.next_row;
                    self.next_row += 1;
                    let most = if rng.random_bool(0.1) { 40_000 } else { 300 };
                    vec![
                        Write::Set(key(Table::Body, row, 0), some(rng, most)),
                        Write::Set(key(Table::Meta, row, 0), some(rng, 100)),
                    ]
                }
                4 => {
                    let name = format!("name/{}", rng.random_range(0..5));
                    if rng.random_bool(0.3) {
                        vec![Write::Remove(Key::Named(name))]
                    } else {
                        vec![Write::Set(Key::Named(name), some(rng, 200))]
                    }
                }
                _ if live.is_empty() => continue,
                5 => vec![Write::Forget { row, sides: EVERYTHING }],
                _ => {
                    let table = TABLES[rng.random_range(1..TABLES.len())];
                    let sub = if has_subs(table) { rng.random_range(0..4) } else { 0 };
                    let side = if rng.random_bool(0.2) && table != Table::Body {
                        Write::Remove(key(table, row, sub))
                    } else {
                        Write::Set(key(table, row, sub), some(rng, 300))
                    };
                    vec![side, Write::Set(key(Table::Meta, row, 0), some(rng, 100))]
                }
            };
            self.apply(&more);
            writes.extend(more);
        }
        writes
    }
}

/// Opens a directory and reads everything there is.
fn read_all(dir: &Path) -> Result<(u64, Model), StoreError> {
    let mut log = SqliteLog::open(dir)?;
    let mut model = Model::default();
    let loaded = log.load(&mut |found| {
        match found {
            Found::Record(Key::Job { table, row, sub }, value) => {
                model.jobs.insert((table, row, sub), Bytes::copy_from_slice(value));
            }
            Found::Record(Key::Named(name), value) => {
                model.named.insert(name, Bytes::copy_from_slice(value));
            }
            Found::Log { .. } => {}
        }
        Ok(())
    })?;
    let rows: Vec<u64> = model.jobs.keys().map(|key| key.1).collect();
    let keys: Vec<SideKey> = rows
        .iter()
        .flat_map(|row| TABLES[1..].iter().map(move |table| (*table, *row)))
        .flat_map(|(table, row)| (0..if has_subs(table) { 4 } else { 1 }).map(move |sub| (table, row, sub)))
        .collect();
    for (key, value) in keys.iter().zip(log.reader().read(&keys)) {
        if let Some(value) = value.expect("no side record is damaged here") {
            model.jobs.insert(*key, value);
        }
    }
    let found = log.verify(loaded.jobs).expect("the tables can be read");
    assert_eq!(found, Vec::<String>::new());
    Ok((loaded.seq, model))
}

/// A history of commits, and the files it left behind.
struct Run {
    dir: TempDir,
    /// By number of the commit.
    states: Vec<Model>,
    /// Length of the write-ahead log when each commit was acknowledged.
    synced: Vec<u64>,
}

impl Run {
    fn new(seed: u64, commits: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = SqliteLog::open(dir.path()).expect("opens");
        log.load(&mut |_| Ok(())).expect("empty");
        let wal = dir.path().join(format!("{FILE}-wal"));
        let mut model = Model::default();
        let mut run = Self { dir, states: vec![Model::default()], synced: vec![0] };
        for _ in 0..commits {
            let writes = model.some_writes(&mut rng);
            log.commit(&Changes::of(writes), Safety::PowerLoss).expect("commits");
            run.states.push(Model { next_row: 0, ..model.clone() });
            run.synced.push(fs::metadata(&wal).expect("there").len());
        }
        // Dropped as a killed process drops it: the write-ahead log stays as it is.
        drop(log);
        run
    }

    fn file(&self, suffix: &str) -> Vec<u8> {
        fs::read(self.dir.path().join(format!("{FILE}{suffix}"))).expect("there")
    }

    /// The files of a machine that lost its power: this database, this log, and a mark.
    fn image(db: &[u8], wal: &[u8], marked: u64) -> TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(FILE), db).expect("writes");
        fs::write(dir.path().join(format!("{FILE}-wal")), wal).expect("writes");
        Mark::open(dir.path()).expect("opens").write(marked).expect("writes");
        dir
    }
}

fn seed() -> u64 {
    let seed = std::env::var("JOBWIRE_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().expect("a number"));
    println!("JOBWIRE_SEED={seed}");
    seed
}

#[test]
fn after_a_power_cut_all_that_was_acknowledged_is_there() {
    let seed = seed();
    let run = Run::new(seed, 40);
    let (db, wal) = (run.file(""), run.file("-wal"));
    let mut rng = StdRng::seed_from_u64(seed ^ 1);
    let frame = 24 + 8192;
    let boundaries = (0..).map(|n| 32 + n * frame).take_while(|at| *at <= wal.len());
    let anywhere = (0..150).map(|_| rng.random_range(0..=wal.len())).collect::<Vec<_>>();
    for cut in boundaries.chain(anywhere) {
        // The last commit whose sync returned before the power went: everything after it may be there or not.
        let acknowledged = run.synced.iter().rposition(|synced| *synced <= cut as u64).expect("0 is") as u64;
        let mut image = wal[..cut].to_vec();
        if rng.random_bool(0.5) {
            // Blocks that were allotted, and never written.
            let junk = rng.random_range(0..3 * frame);
            let zeros = rng.random_bool(0.5);
            image.extend((0..junk).map(|_| if zeros { 0 } else { rng.random::<u8>() }));
        }
        let marked = rng.random_range(0..=acknowledged);
        let dir = Run::image(&db, &image, marked);
        let (seq, state) = read_all(dir.path()).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        assert_eq!(seq, acknowledged, "cut at {cut}");
        assert_eq!(state, run.states[seq as usize], "cut at {cut}");
    }
}

#[test]
fn a_damaged_write_ahead_log_loses_nothing_in_silence() {
    let seed = seed();
    let run = Run::new(seed, 30);
    let (db, wal) = (run.file(""), run.file("-wal"));
    let last = run.states.len() as u64 - 1;
    let mut rng = StdRng::seed_from_u64(seed ^ 2);
    let mut refused = 0;
    for _ in 0..200 {
        let mut image = wal.clone();
        let bit = rng.random_range(0..image.len() * 8);
        image[bit / 8] ^= 1 << (bit % 8);
        let dir = Run::image(&db, &image, last);
        match read_all(dir.path()) {
            Ok((seq, state)) => {
                assert_eq!(seq, last, "bit {bit}");
                assert_eq!(state, run.states[last as usize], "bit {bit}");
            }
            Err(StoreError::Damaged(place)) => {
                assert!(place.contains(FILE), "{place}");
                refused += 1;
            }
            Err(error) => panic!("bit {bit}: {error}"),
        }
    }
    assert!(refused > 150, "only {refused} of 200 were noticed");
    // A log that is gone altogether, too.
    let place = read_all(Run::image(&db, &[], last).path()).expect_err("refused").to_string();
    assert!(place.contains(&format!("commit {last} was acknowledged")), "{place}");
}

#[test]
fn a_power_cut_while_pages_move_into_the_database_does_no_harm() {
    let seed = seed();
    let run = Run::new(seed, 30);
    let (old, wal) = (run.file(""), run.file("-wal"));
    let log = SqliteLog::open(run.dir.path()).expect("opens");
    Box::new(log).close().expect("closes");
    let new = run.file("");
    assert_ne!(old, new, "closing moves the pages");
    let last = run.states.len() as u64 - 1;
    let mut rng = StdRng::seed_from_u64(seed ^ 3);
    for _ in 0..30 {
        // Any of the pages may have reached the disk; the log is not cut before all have.
        let length = if rng.random_bool(0.5) { new.len() } else { old.len() };
        let mut image = vec![0; length];
        for (number, page) in image.chunks_mut(8192).enumerate() {
            let at = number * 8192;
            let from = if at < old.len() && rng.random_bool(0.5) { &old } else { &new };
            if at < from.len() && (at < old.len() || rng.random_bool(0.7)) {
                page.copy_from_slice(&from[at..at + page.len()]);
            }
        }
        let (seq, state) = read_all(Run::image(&image, &wal, last).path()).expect("opens");
        assert_eq!((seq, &state), (last, &run.states[last as usize]));
    }
}

#[test]
fn a_flipped_bit_in_the_database_never_gives_wrong_bytes() {
    let seed = seed();
    let run = Run::new(seed, 60);
    let last = run.states.len() as u64 - 1;
    let state = &run.states[last as usize];
    let log = SqliteLog::open(run.dir.path()).expect("opens");
    Box::new(log).close().expect("closes");
    let db = run.file("");
    let mut rng = StdRng::seed_from_u64(seed ^ 4);
    let (mut refused, mut noticed) = (0, 0);
    for _ in 0..400 {
        let mut image = db.clone();
        let bit = rng.random_range(0..image.len() * 8);
        image[bit / 8] ^= 1 << (bit % 8);
        let dir = Run::image(&image, &[], last);
        let mut kept = BTreeMap::new();
        let opened = SqliteLog::open(dir.path()).and_then(|mut log| {
            log.load(&mut |found| {
                if let Found::Record(key, value) = found {
                    kept.insert(key, Bytes::copy_from_slice(value));
                }
                Ok(())
            })?;
            Ok(log)
        });
        let log = match opened {
            Ok(log) => log,
            Err(error) => {
                assert!(error.to_string().contains(FILE), "bit {bit}: {error}");
                refused += 1;
                continue;
            }
        };
        for (key, value) in &kept {
            let right = match key {
                Key::Job { table, row, sub } => state.jobs.get(&(*table, *row, *sub)),
                Key::Named(name) => state.named.get(name),
            };
            assert_eq!(Some(value), right, "bit {bit}: {key:?}");
        }
        let metas = state.jobs.keys().filter(|key| key.0 == Table::Meta).count();
        let found = kept.keys().filter(|key| matches!(key, Key::Job { .. })).count();
        assert_eq!(found, metas, "bit {bit}: a job is missing");
        assert_eq!(kept.len() - found, state.named.len(), "bit {bit}: a named record is missing");
        let sides: Vec<SideKey> = state.jobs.keys().filter(|key| key.0 != Table::Meta).copied().collect();
        for (key, read) in sides.iter().zip(log.reader().read(&sides)) {
            match read {
                Ok(Some(value)) => assert_eq!(Some(&value), state.jobs.get(key), "bit {bit}: {key:?}"),
                Ok(None) | Err(_) => noticed += 1,
            }
        }
    }
    assert!(refused > 0 && noticed > 0, "{refused} refused, {noticed} noticed");
}

#[test]
fn damaged_meta_is_refused_with_its_place() {
    let run = Run::new(7, 20);
    let last = run.states.len() - 1;
    let row = run.states[last].jobs.keys().find(|key| key.0 == Table::Meta).expect("a job").1;
    let conn = rusqlite::Connection::open(run.dir.path().join(FILE)).expect("opens");
    let stored: Vec<u8> =
        conn.query_row("SELECT value FROM meta WHERE row = ?1", [row as i64], |row| row.get(0)).expect("there");
    let mut harmed = stored.clone();
    harmed[0] ^= 4;
    let set = "UPDATE meta SET value = ?1 WHERE row = ?2";
    conn.execute(set, rusqlite::params![harmed, row as i64]).expect("writes");
    drop(conn);
    let place = read_all(run.dir.path()).expect_err("refused").to_string();
    assert!(place.contains(&format!("{FILE}, table meta, row {row}: the checksum")), "{place}");

    // A row that vanished is missed, too.
    let conn = rusqlite::Connection::open(run.dir.path().join(FILE)).expect("opens");
    conn.execute("DELETE FROM meta WHERE row = ?1", [row as i64]).expect("writes");
    drop(conn);
    let place = read_all(run.dir.path()).expect_err("refused").to_string();
    assert!(place.contains(" jobs in table meta") && place.contains(" were found where "), "{place}");
}

#[test]
fn a_newer_format_and_foreign_files_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    drop(SqliteLog::open(dir.path()).expect("opens"));
    let path = dir.path().join(FILE);
    let conn = rusqlite::Connection::open(&path).expect("opens");
    conn.pragma_update(None, "user_version", schema::FORMAT + 1).expect("writes");
    drop(conn);
    let refusal = SqliteLog::open(dir.path()).err().expect("refused").to_string();
    assert!(refusal.contains("format 2") && refusal.contains("newer server"), "{refusal}");

    let dir = tempfile::tempdir().expect("a directory");
    let conn = rusqlite::Connection::open(dir.path().join(FILE)).expect("opens");
    conn.execute_batch("CREATE TABLE theirs(x)").expect("writes");
    drop(conn);
    assert!(matches!(SqliteLog::open(dir.path()), Err(StoreError::Refused(_))));

    fs::write(dir.path().join(FILE), vec![b'x'; 20_000]).expect("writes");
    assert!(matches!(SqliteLog::open(dir.path()), Err(StoreError::Damaged(_))));
}

#[test]
fn an_older_database_under_a_newer_mark_is_refused_until_the_mark_is_deleted() {
    let run = Run::new(3, 5);
    Mark::open(run.dir.path()).expect("opens").write(6).expect("writes");
    let place = read_all(run.dir.path()).expect_err("refused").to_string();
    assert!(place.contains("ends at commit 5, but commit 6 was acknowledged"), "{place}");
    fs::remove_file(run.dir.path().join(mark::FILE)).expect("there");
    assert_eq!(read_all(run.dir.path()).expect("opens").0, 5);
}

#[test]
fn a_commit_that_finds_no_room_can_be_repeated_as_it_stands() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut log = SqliteLog::open(dir.path()).expect("opens");
    log.load(&mut |_| Ok(())).expect("empty");
    let body = |row| {
        let big = Bytes::from(vec![1; 200_000]);
        let meta = Bytes::from_static(b"meta");
        vec![
            Write::Set(Key::Job { table: Table::Body, row, sub: 0 }, big),
            Write::Set(Key::Job { table: Table::Meta, row, sub: 0 }, meta),
        ]
    };
    log.commit(&Changes::of(body(0)), Safety::PowerLoss).expect("room");
    log.limit_pages(Some(40));
    let changes = Changes::of(body(1));
    for _ in 0..3 {
        let refusal = log.commit(&changes, Safety::PowerLoss).expect_err("no room");
        assert!(matches!(refusal, CommitError::NoSpace(_)), "{refusal:?}");
    }
    log.commit(&Changes::of(vec![Write::Forget { row: 0, sides: Sides::default() }]), Safety::PowerLoss)
        .expect("forgetting needs no room");
    log.commit(&changes, Safety::PowerLoss).expect("there is room again");
    assert_eq!(log.verify(1).expect("reads"), Vec::<String>::new());
    Box::new(log).close().expect("closes");
    let (seq, state) = read_all(dir.path()).expect("opens");
    assert_eq!((seq, state.jobs.len()), (3, 2));
}
