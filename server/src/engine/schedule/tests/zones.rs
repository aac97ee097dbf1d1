//! Which instants a cadence means.
use proptest::prelude::*;

use super::{reference::ticks, *};
use crate::model::time::{DAY, HOUR, MINUTE, SECOND};

/// Ten zones and ten years of each that have something in them: half-hour changes, a day that never was, a month without
/// summer time in every summer, changes at midnight, changes of the rules, a zone that never changes.
const ZONES: [(&str, i16); 10] = [
    ("Europe/Berlin", 2020),
    ("America/New_York", 2003),
    ("Australia/Lord_Howe", 2015),
    ("Pacific/Apia", 2005),
    ("Africa/Casablanca", 2016),
    ("America/Sao_Paulo", 2010),
    ("Asia/Kathmandu", 1984),
    ("Asia/Gaza", 2008),
    ("America/St_Johns", 2004),
    ("Antarctica/Troll", 2016),
];

/// With fixed hours, with wildcards, with seconds, with both days; all of what the reference reads.
const EXPRESSIONS: [&str; 13] = [
    "30 2 * * *",
    "0 0 * * *",
    "15 1 * * 1-5",
    "0 3 1,15 * 0",
    "*/15 2 * * *",
    "30 1,2,3 * 3,4,9,10,11 *",
    "0 0-6/2 * * 0,6",
    "20 10 30 12 *",
    "0 * * * *",
    "30 */2 * * *",
    "*/20 * * 3,10,11 0",
    "*/30 15 2 * * 0",
    "10 5 */4 28-31 2,3,10 *",
];

fn all(calendar: &Calendar, from_ms: i64, to_ms: i64) -> Vec<i64> {
    let mut found = Vec::new();
    let mut tick = calendar.at_or_after(from_ms);
    while let Some(ms) = tick.filter(|ms| *ms < to_ms) {
        assert!(found.last().is_none_or(|last| *last < ms), "not increasing at {}", show(ms));
        found.push(ms);
        tick = calendar.after(ms);
    }
    found
}

/// No tick is lost, none doubled, through every change of ten zones in ten years, under every policy.
#[test]
fn ticks_are_those_of_the_reference() {
    let mut compared = 0;
    for (zone, year) in ZONES {
        // Without the days in which the edges of the calendar lie.
        let from_ms = at(&format!("{year}-01-03T00:00:00Z"));
        let to_ms = at(&format!("{}-12-29T00:00:00Z", year + 9));
        for expression in EXPRESSIONS {
            for (gap, fold) in [(Gap::After, Fold::First), (Gap::Skip, Fold::Both)] {
                let spec = ScheduleSpec { gap, fold, ..cron(expression, zone) };
                let found = all(&calendar(&spec), from_ms, to_ms);
                let mut expected = ticks(expression, zone, (year, year + 10), gap, fold);
                expected.retain(|ms| (from_ms..to_ms).contains(ms));
                let differ = found.iter().zip(&expected).find(|(a, b)| a != b).map(|(a, b)| (show(*a), show(*b)));
                assert_eq!(differ, None, "{expression} in {zone}, {gap:?}, {fold:?}: found and expected");
                assert_eq!(found.len(), expected.len(), "{expression} in {zone}, {gap:?}, {fold:?}");
                compared += found.len();
            }
        }
    }
    assert!(compared > 800_000, "{compared} ticks compared");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Any simple expression, any of the zones, around any time of ten years.
    #[test]
    fn any_expression_is_that_of_the_reference(
        minute in 0..60_u32, hour in prop::option::of(0..24_u32), step in 1..12_u32, weekday in prop::option::of(0..7_u32),
        zone in prop::sample::select(ZONES.to_vec()), offset in 0..9_i16, skip: bool, both: bool,
    ) {
        let hour = hour.map_or(format!("*/{step}"), |hour| hour.to_string());
        let weekday = weekday.map_or("*".to_owned(), |weekday| weekday.to_string());
        let expression = format!("{minute} {hour} * * {weekday}");
        let gap = if skip { Gap::Skip } else { Gap::After };
        let fold = if both { Fold::Both } else { Fold::First };
        let year = zone.1 + offset;
        let from_ms = at(&format!("{year}-01-03T00:00:00Z"));
        let to_ms = at(&format!("{year}-12-29T00:00:00Z"));
        let found = all(&calendar(&ScheduleSpec { gap, fold, ..cron(&expression, zone.0) }), from_ms, to_ms);
        let mut expected = ticks(&expression, zone.0, (year, year + 1), gap, fold);
        expected.retain(|ms| (from_ms..to_ms).contains(ms));
        prop_assert_eq!(found, expected);
    }

    /// The last tick of a span is the last one, and the number of ticks their number.
    #[test]
    fn spans_are_searched_right(from in 0..DAY, length in 0..3 * DAY, expression in prop::sample::select(EXPRESSIONS.to_vec())) {
        let calendar = calendar(&cron(expression, "Europe/Berlin"));
        let from_ms = at("2025-10-24T00:00:00Z") + from;
        let all = all(&calendar, from_ms, from_ms + length);
        prop_assert_eq!(calendar.last_between(from_ms, from_ms + length), all.last().copied());
        prop_assert_eq!(calendar.count(from_ms, from_ms + length), all.len() as u64);
    }

    #[test]
    fn intervals_are_counted_from_their_start(start in 0..DAY, step in SECOND..DAY, after in -DAY..40 * DAY) {
        let calendar = calendar(&ScheduleSpec { start_ms: Some(start), ..spec(Cadence::Every(step), "UTC") });
        let tick = calendar.after(after).expect("there is always one");
        prop_assert!(tick > after && tick >= start && (tick - start) % step == 0);
        prop_assert!(tick - step <= after || tick == start);
        prop_assert_eq!(calendar.count(after, after + 10 * DAY), all(&calendar, after, after + 10 * DAY).len() as u64);
    }
}

#[test]
fn a_local_time_in_the_gap_fires_right_after_it_or_not_at_all() {
    let nightly = cron("30 2 * * *", "Europe/Berlin");
    let expected = ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"];
    assert_eq!(next(&nightly, "2026-03-28T00:00:00Z", 3), expected);
    let skipping = ScheduleSpec { gap: Gap::Skip, ..nightly };
    assert_eq!(next(&skipping, "2026-03-28T00:00:00Z", 2), ["2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z"]);
    // All of the hour that is not there becomes one tick.
    let dense = cron("*/10 2 * * *", "Europe/Berlin");
    assert_eq!(next(&dense, "2026-03-29T00:00:00Z", 2), ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]);
}

#[test]
fn a_local_time_that_is_repeated_fires_once_or_twice() {
    let nightly = cron("30 2 * * *", "Europe/Berlin");
    assert_eq!(next(&nightly, "2026-10-24T12:00:00Z", 2), ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    let both = ScheduleSpec { fold: Fold::Both, ..nightly };
    let expected = ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"];
    assert_eq!(next(&both, "2026-10-24T12:00:00Z", 3), expected);
}

#[test]
fn with_a_wildcard_hour_every_real_hour_counts() {
    for hourly in ["0 * * * *", "@hourly"] {
        let hourly = ScheduleSpec { gap: Gap::After, fold: Fold::First, ..cron(hourly, "Europe/Berlin") };
        for from in ["2026-03-28T20:00:00Z", "2026-10-24T20:00:00Z"] {
            let calendar = calendar(&hourly);
            let mut last = at(from);
            for _ in 0..12 {
                let tick = calendar.after(last).expect("one every hour");
                assert_eq!(tick - last, HOUR, "after {}", show(last));
                last = tick;
            }
        }
    }
}

#[test]
fn the_day_that_apia_never_had_is_made_up_for_at_its_end() {
    let daily = cron("0 9 * * *", "Pacific/Apia");
    let expected = ["2011-12-29T19:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T19:00:00Z"];
    assert_eq!(next(&daily, "2011-12-29T00:00:00Z", 3), expected);
}

#[test]
fn start_and_end_are_the_edges() {
    let spec = ScheduleSpec {
        start_ms: Some(at("2026-05-01T10:00:00Z")),
        end_ms: Some(at("2026-05-01T12:00:00Z")),
        ..cron("@hourly", "UTC")
    };
    let expected = ["2026-05-01T10:00:00Z", "2026-05-01T11:00:00Z", "2026-05-01T12:00:00Z"];
    assert_eq!(next(&spec, "2026-01-01T00:00:00Z", 9), expected);
    let interval = ScheduleSpec { cadence: Cadence::Every(90 * MINUTE), ..spec };
    assert_eq!(next(&interval, "2026-01-01T00:00:00Z", 9), ["2026-05-01T10:00:00Z", "2026-05-01T11:30:00Z"]);
}

#[test]
fn what_is_no_cadence_is_refused() {
    let bad = |spec: ScheduleSpec| Calendar::new(&spec, 0).expect_err("refused");
    assert_eq!(bad(cron("0 0 30 2 *", "UTC")), BadCadence::Never);
    assert_eq!(bad(cron("@daily", "Mars/Olympus")), BadCadence::Zone);
    assert_eq!(bad(cron("@daily", "")), BadCadence::Zone);
    for text in
        ["", "* * * *", "* * * * * * *", "60 * * * *", "0 25 * * *", "@sometimes", "@reboot", "a b c d e", "0 0 0 * *"]
    {
        assert!(matches!(bad(cron(text, "UTC")), BadCadence::Cron(_)), "{text}");
    }
}

#[test]
fn names_macros_and_seconds_are_known() {
    for (text, first) in [
        ("@yearly", "2027-01-01T00:00:00Z"),
        ("@annually", "2027-01-01T00:00:00Z"),
        ("@monthly", "2026-06-01T00:00:00Z"),
        ("@weekly", "2026-05-17T00:00:00Z"),
        ("@daily", "2026-05-13T00:00:00Z"),
        ("@midnight", "2026-05-13T00:00:00Z"),
        ("@hourly", "2026-05-12T11:00:00Z"),
        ("0 8 * jun MON", "2026-06-01T08:00:00Z"),
        ("*/10 * * * * *", "2026-05-12T10:20:40Z"),
        ("0 0 L * *", "2026-05-31T00:00:00Z"),
        ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
    ] {
        assert_eq!(next(&cron(text, "UTC"), "2026-05-12T10:20:30Z", 1), [first], "{text}");
    }
}

#[test]
fn cadences_read_well() {
    let words = |spec: ScheduleSpec| calendar(&spec).words();
    assert_eq!(words(cron("30 2 * * 1-5", "Europe/Berlin")), "At 02:30, Monday to Friday, Europe/Berlin");
    assert_eq!(words(spec(Cadence::Every(90 * MINUTE), "UTC")), "Every 1h 30m, counted from 1970-01-01T01:30:00Z");
}
