//! The reference: takes every local day, every matching time of it, and asks jiff what instants that local time is. Reads
//! expressions itself. Slow, obvious, and shares nothing with the code under test.
use std::collections::BTreeSet;

use jiff::{
    civil::{Date, date},
    tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase},
};

use crate::model::schedule::{Fold, Gap};

/// Numbers that a field names: `*`, `a`, `a-b`, `*/n`, `a-b/n`, and lists of these.
fn field(text: &str, low: i8, high: i8) -> BTreeSet<i8> {
    let number = |text: &str| text.parse::<i8>().expect("a number");
    let mut found = BTreeSet::new();
    for part in text.split(',') {
        let (range, step) = part.split_once('/').map_or((part, 1), |(range, step)| (range, number(step)));
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (low, high),
            Some((from, to)) => (number(from), number(to)),
            None => (number(range), number(range)),
        };
        found.extend((from..=to).step_by(step as usize));
    }
    found
}

/// Ticks, in milliseconds, of the days from one to before another; the edges of the first and last day may lack some.
pub fn ticks(expression: &str, zone: &str, years: (i16, i16), gap: Gap, fold: Fold) -> Vec<i64> {
    let zone = TimeZoneDatabase::bundled().get(zone).expect("a zone");
    let parts: Vec<&str> = expression.split_whitespace().collect();
    let (seconds, parts) = if parts.len() == 6 { (parts[0], &parts[1..]) } else { ("0", &parts[..]) };
    let (seconds, minutes, hours) = (field(seconds, 0, 59), field(parts[0], 0, 59), field(parts[1], 0, 23));
    let (days, months, weekdays) = (field(parts[2], 1, 31), field(parts[3], 1, 12), field(parts[4], 0, 6));
    let elapsed = parts[1].starts_with('*');
    let day_matches = |day: Date| {
        let of_month = days.contains(&day.day());
        let of_week = weekdays.contains(&day.weekday().to_sunday_zero_offset());
        months.contains(&day.month())
            && match (parts[2] == "*", parts[4] == "*") {
                (false, false) => of_month || of_week,
                _ => of_month && of_week,
            }
    };
    let mut found = BTreeSet::new();
    let mut day = date(years.0, 1, 1);
    while day < date(years.1, 1, 1) {
        if day_matches(day) {
            for hour in &hours {
                for minute in &minutes {
                    for second in &seconds {
                        instants(&zone, day, (*hour, *minute, *second), elapsed, gap, fold, &mut found);
                    }
                }
            }
        }
        day = day.tomorrow().expect("there is one");
    }
    found.into_iter().collect()
}

fn instants(
    zone: &TimeZone,
    day: Date,
    (hour, minute, second): (i8, i8, i8),
    elapsed: bool,
    gap: Gap,
    fold: Fold,
    found: &mut BTreeSet<i64>,
) {
    let local = day.at(hour, minute, second, 0);
    let offset = |offset: jiff::tz::Offset| offset.to_timestamp(local).expect("in range");
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset: only } => _ = found.insert(offset(only).as_millisecond()),
        AmbiguousOffset::Fold { before, after } => {
            found.insert(offset(before).as_millisecond());
            if elapsed || fold == Fold::Both {
                found.insert(offset(after).as_millisecond());
            }
        }
        AmbiguousOffset::Gap { after, .. } if !elapsed && gap == Gap::After => {
            let change = zone.following(offset(after) - jiff::SignedDuration::from_secs(1)).next();
            found.insert(change.expect("the change that skips it").timestamp().as_millisecond());
        }
        AmbiguousOffset::Gap { .. } => {}
    }
}
