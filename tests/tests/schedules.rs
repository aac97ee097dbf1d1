//! Schedules that tick every second while servers are killed, frozen and started again: each tick has one job, and none is
//! missing.
//!
//! `JOBWIRE_SEED` repeats the moments of a run.
use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use jobwire_proto::v1::{
    CatchUpPolicy, GetScheduleRequest, JobSpec, ListJobsRequest, PauseSchedulesRequest, PutScheduleRequest, Schedule,
    ScheduleSpec, Selector, schedule_service_client::ScheduleServiceClient, schedule_spec::Cadence,
};
use jobwire_redis_rig::{Redis, Settings};
use jobwire_tests::{
    random::Random,
    server::Store,
    site::Site,
    wait::{LONG, wait_for},
};
use tonic::transport::Channel;

const SCHEDULES: usize = 10;
const SERVERS: usize = 3;
/// From one death to the next.
const LIFE: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(1_500));
/// How long a server that was killed stays away.
const DEATH: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(2_500));

fn id(n: usize) -> String {
    format!("every-second-{n}")
}

fn client(site: &Site) -> ScheduleServiceClient<Channel> {
    ScheduleServiceClient::new(site.clients().channel)
}

/// Half of them by cron, half by interval.
fn put_all(site: &Site) {
    for n in 0..SCHEDULES {
        let cadence = match n % 2 {
            0 => Cadence::Cron("* * * * * *".into()),
            _ => Cadence::Interval(prost_types::Duration { seconds: 1, nanos: 0 }),
        };
        let spec = ScheduleSpec {
            cadence: Some(cadence),
            catch_up: CatchUpPolicy::All.into(),
            job: Some(JobSpec { r#type: format!("tick-{n}"), ..Default::default() }),
            ..Default::default()
        };
        let request = PutScheduleRequest { id: id(n), spec: Some(spec), ..Default::default() };
        site.runtime.block_on(client(site).put_schedule(request)).expect("a schedule");
    }
}

fn get(site: &Site, n: usize) -> Schedule {
    let answer = site.runtime.block_on(client(site).get_schedule(GetScheduleRequest { id: id(n) }));
    answer.expect("it answers").into_inner().schedule.expect("it is there")
}

/// Milliseconds of the ticks that have jobs, one for each job.
fn ticks(site: &Site, n: usize) -> Vec<i64> {
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let filter = format!("schedule_id = \"{}\"", id(n));
        let request = ListJobsRequest { filter, page_size: 1_000, page_token, ..Default::default() };
        let page = site.runtime.block_on(site.clients().jobs.list_jobs(request)).expect("it lists").into_inner();
        let at = |time: &prost_types::Timestamp| time.seconds * 1_000 + i64::from(time.nanos) / 1_000_000;
        found.extend(page.jobs.iter().map(|job| at(job.fire_time.as_ref().expect("a tick"))));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            found.sort_unstable();
            return found;
        }
    }
}

/// Nobody works: every job that was ever made is there.
fn assert_each_tick_once(site: &Site, started: Instant) {
    let fired = |site: &Site| (0..SCHEDULES).map(|n| get(site, n).fired_count).min().unwrap_or_default();
    let before = fired(site);
    wait_for("all of them tick", LONG, || fired(site) > before);
    let least = started.elapsed().as_secs() as usize - 2;
    let selector = Some(Selector { ids: Vec::new(), filter: "*".into() });
    let pause = PauseSchedulesRequest { selector, reason: String::new() };
    site.runtime.block_on(client(site).pause_schedules(pause)).expect("paused");
    for n in 0..SCHEDULES {
        let (ticks, schedule) = (ticks(site, n), get(site, n));
        let once: BTreeSet<i64> = ticks.iter().copied().collect();
        assert_eq!(once.len(), ticks.len(), "{}: a tick has two jobs: {ticks:?}", id(n));
        let gap = ticks.windows(2).find(|pair| pair[1] - pair[0] != 1_000);
        assert_eq!(gap, None, "{}: ticks are missing: {ticks:?}", id(n));
        assert!(ticks.len() >= least, "{}: {} ticks in {least} s", id(n), ticks.len());
        assert_eq!(schedule.fired_count as usize, ticks.len(), "{}", id(n));
    }
}

#[test]
fn replicas_killed_and_frozen_fire_every_tick_once() {
    let (mut random, seed) = Random::new();
    println!("schedules_replicas: seed {seed}");
    let redis = Redis::start(Settings::new());
    let mut site = Site::on(&Store::redis(redis.url()), SERVERS, &[]);
    put_all(&site);
    let started = Instant::now();
    for round in 0..8 {
        // The moments of a death and of a return: no condition decides them.
        thread::sleep(random.span(LIFE.0, LIFE.1));
        let victim = usize::try_from(random.below(SERVERS as u64)).expect("a small number");
        if round % 4 == 3 {
            site.freeze_server(victim);
            // As above.
            thread::sleep(random.span(DEATH.0, DEATH.1));
            site.thaw_server(victim);
        } else {
            site.kill_server(victim);
            // As above.
            thread::sleep(random.span(DEATH.0, DEATH.1));
            site.start_server_again(victim);
        }
    }
    // All at once.
    (0..SERVERS).for_each(|victim| site.kill_server(victim));
    // Nobody is there for some ticks.
    thread::sleep(DEATH.1);
    (0..SERVERS).for_each(|victim| site.start_server_again(victim));
    assert_each_tick_once(&site, started);
}

#[test]
fn an_embedded_server_killed_over_and_over_fires_every_tick_once() {
    let (mut random, seed) = Random::new();
    println!("schedules_embedded: seed {seed}");
    let mut site = Site::open();
    put_all(&site);
    let started = Instant::now();
    for _ in 0..6 {
        // As above.
        thread::sleep(random.span(LIFE.0, LIFE.1));
        site.kill_server(0);
        // As above.
        thread::sleep(random.span(DEATH.0, DEATH.1));
        site.start_server_again(0);
    }
    assert_each_tick_once(&site, started);
}

/// Seconds between ticks of the schedules that see the clock set: an hour of them is made up for in a moment.
const CALM_S: i64 = 5;
const HOUR_S: i64 = 3_600;

#[test]
fn clocks_set_an_hour_back_and_forth_under_replicas_fire_every_tick_once() {
    let (mut random, seed) = Random::new();
    println!("schedules_clock: seed {seed}");
    let redis = Redis::start(Settings::new().own_clock());
    let mut site = Site::on(&Store::redis(redis.url()), SERVERS, &[]);
    site.allow("the clock of Redis was set");
    for n in 0..SCHEDULES {
        let cadence = match n % 2 {
            0 => Cadence::Cron(format!("*/{CALM_S} * * * * *")),
            _ => Cadence::Interval(prost_types::Duration { seconds: CALM_S, nanos: 0 }),
        };
        let spec = ScheduleSpec {
            cadence: Some(cadence),
            catch_up: CatchUpPolicy::All.into(),
            catch_up_window: Some(prost_types::Duration { seconds: 2 * HOUR_S, nanos: 0 }),
            job: Some(JobSpec { r#type: format!("tick-{n}"), ..Default::default() }),
            ..Default::default()
        };
        let request = PutScheduleRequest { id: id(n), spec: Some(spec), ..Default::default() };
        site.runtime.block_on(client(&site).put_schedule(request)).expect("a schedule");
    }
    let least = |site: &Site| (0..SCHEDULES).map(|n| get(site, n).fired_count).min().unwrap_or_default();
    let most = |site: &Site| (0..SCHEDULES).map(|n| get(site, n).fired_count).max().unwrap_or_default();
    wait_for("all of them tick", LONG, || least(&site) > 0);
    let mut change = |site: &mut Site, offset_s: i64| {
        // A server dies while the clock is set, and is back after it.
        let victim = usize::try_from(random.below(SERVERS as u64)).expect("a small number");
        site.kill_server(victim);
        redis.set_clock(offset_s);
        // The moment of its return: no condition decides it.
        thread::sleep(random.span(DEATH.0, DEATH.1));
        site.start_server_again(victim);
    };

    // An hour back: nothing fires again, and nothing at all while the time has been before.
    change(&mut site, -HOUR_S);
    let fired = most(&site);
    // Longer than between two ticks.
    thread::sleep(Duration::from_secs(CALM_S as u64 + 1));
    assert!(most(&site) <= fired + 1, "a tick that was on its way may be in; no others");
    // The true time again: what was missed meanwhile comes.
    change(&mut site, 0);
    let before = least(&site);
    wait_for("all of them tick again", LONG, || least(&site) > before);
    // An hour ahead: all of it is made up for, once.
    change(&mut site, HOUR_S);
    let before = least(&site);
    wait_for("an hour is made up for", LONG * 3, || least(&site) >= before.max(HOUR_S / CALM_S));
    // And back: none of it fires again.
    change(&mut site, 0);
    // Longer than between two ticks.
    thread::sleep(Duration::from_secs(CALM_S as u64 + 1));
    for n in 0..SCHEDULES {
        let (ticks, schedule) = (ticks(&site, n), get(&site, n));
        let once: BTreeSet<i64> = ticks.iter().copied().collect();
        assert_eq!(once.len(), ticks.len(), "{}: a tick has two jobs", id(n));
        let gap = ticks.windows(2).find(|pair| pair[1] - pair[0] != CALM_S * 1_000);
        assert_eq!(gap, None, "{}: ticks are missing", id(n));
        assert_eq!(schedule.fired_count as usize, ticks.len(), "{}", id(n));
    }
}
