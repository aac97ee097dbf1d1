//! Cron expressions in a time zone. `croner` knows which local times match; what local times mean in a zone whose clocks
//! change is decided here, stretch by stretch: between two changes of its offset a zone is nothing but an offset.
//!
//! A fixed local time that is skipped fires right after the gap, or not at all; one that is repeated fires the first time,
//! or both times. An expression whose hour is a wildcard means elapsed time: nothing is made up for, and repeated times
//! fire both times, so that what runs hourly runs every hour there is. Two ticks on one instant are one.
use std::sync::LazyLock;

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{
    Timestamp,
    civil::DateTime,
    tz::{Offset, TimeZone, TimeZoneDatabase},
};

use super::calendar::BadCadence;
use crate::model::schedule::{Fold, Gap};

/// The one that is part of this program: the same on every server of a release, whatever its machine has.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// More than the offset of any zone, in seconds.
const OFFSET_MOST: i64 = 26 * 3_600;

/// The local times that an expression names, in a zone.
#[derive(Clone, Debug)]
pub struct Local {
    cron: Cron,
    zone: TimeZone,
    gap: Gap,
    fold: Fold,
    /// The hour is a wildcard.
    elapsed: bool,
}

/// A time in which the offset of a zone stays the same; everything in seconds.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    start: i64,
    /// The first second that is not in it.
    end: i64,
    offset: i64,
    /// The offset that ended at the start.
    before: i64,
}

impl Local {
    pub fn new(expression: &str, zone: &str, gap: Gap, fold: Fold) -> Result<Self, BadCadence> {
        let zone = ZONES.get(zone).map_err(|_| BadCadence::Zone)?;
        let text = match expression.trim() {
            text if text.eq_ignore_ascii_case("@midnight") => "@daily",
            text => text,
        };
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(text).map_err(|error| BadCadence::Cron(reason(&error.to_string())))?;
        let fields: Vec<&str> = text.split_whitespace().collect();
        let hour = match fields.len() {
            5 => fields[1],
            6 => fields[2],
            _ if text.eq_ignore_ascii_case("@hourly") => "*",
            _ => "0",
        };
        let local = Self { elapsed: hour.starts_with('*'), cron, zone, gap, fold };
        // The calendar repeats itself after 400 years.
        let some_day = DateTime::constant(2000, 1, 1, 0, 0, 0, 0);
        match local.cron.find_next_occurrence(&some_day, true) {
            Ok(_) => Ok(local),
            Err(_) => Err(BadCadence::Never),
        }
    }

    /// The first tick after this time, in milliseconds.
    pub fn after(&self, ms: i64) -> Option<i64> {
        let from = ms.div_euclid(1_000) + 1;
        let mut stretch = self.stretch(from)?;
        loop {
            if stretch.start >= from && self.makes_up(&stretch) {
                return Some(stretch.start * 1_000);
            }
            let mut local = from.max(stretch.start) + stretch.offset;
            if stretch.before > stretch.offset && self.fold == Fold::First && !self.elapsed {
                local = local.max(stretch.start + stretch.before);
            }
            let found = self.matching(local)?;
            if found < stretch.end.saturating_add(stretch.offset) {
                return Some((found - stretch.offset) * 1_000);
            }
            // Nothing before `found` matches anywhere, so what lies well before it need not be looked at.
            stretch = self.stretch(stretch.end.max(found - OFFSET_MOST))?;
        }
    }

    /// Whether a local time that the change before this stretch skipped fires at its start.
    fn makes_up(&self, stretch: &Stretch) -> bool {
        self.gap == Gap::After
            && !self.elapsed
            && stretch.offset > stretch.before
            && self.matching(stretch.start + stretch.before).is_some_and(|found| found < stretch.start + stretch.offset)
    }

    /// The first matching local time at or after this one; `None` = beyond what calendars know.
    fn matching(&self, local: i64) -> Option<i64> {
        let civil = Offset::UTC.to_datetime(Timestamp::from_second(local).ok()?);
        let found = self.cron.find_next_occurrence(&civil, true).ok()?;
        Some(Offset::UTC.to_timestamp(found).ok()?.as_second())
    }

    fn stretch(&self, at: i64) -> Option<Stretch> {
        let time = Timestamp::from_second(at).ok()?;
        let offset_at = |second: i64| {
            Timestamp::from_second(second).map_or(0, |time| i64::from(self.zone.to_offset(time).seconds()))
        };
        let start = Timestamp::from_second(at + 1)
            .ok()
            .and_then(|later| self.zone.preceding(later).next())
            .map(|change| change.timestamp().as_second());
        let end = self.zone.following(time).next().map(|change| change.timestamp().as_second());
        let offset = offset_at(at);
        Some(Stretch {
            start: start.unwrap_or(i64::MIN),
            end: end.unwrap_or(i64::MAX),
            offset,
            before: start.map_or(offset, |start| offset_at(start - 1)),
        })
    }

    /// "At 02:30, Monday to Friday, Europe/Berlin".
    pub fn words(&self) -> String {
        const WORKDAYS: &str = "on Monday, Tuesday, Wednesday, Thursday, and Friday";
        let words = self.cron.describe().replace(WORKDAYS, "Monday to Friday");
        let zone = self.zone.iana_name().unwrap_or("UTC");
        format!("{}, {zone}", words.trim_end_matches('.'))
    }
}

/// What the parser says, as the end of a sentence that begins with the field.
fn reason(text: &str) -> String {
    let text = text.trim_end_matches('.');
    let (_, text) = text.split_once(": ").unwrap_or(("", text));
    format!("is not a cron expression: {text}")
}
