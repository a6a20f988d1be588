//! When somewhere is open: hours of the week in a time zone, holidays, and days that are otherwise.
//!
//! In: lines of the configuration, a moment. Out: whether it is open then, and until when. It reads no clock:
//! whoever asks says when.
//!
//! | line | is | rule |
//! |---|---|---|
//! | `mo-fr 08:00-12:30`, `mo,we,sa-su 22:00-02:00` | an opening of the week | it belongs to the day on which it begins, also over midnight |
//! | `2026-12-25`, `12-26`, `2026-12-24..2027-01-02`, `12-24..01-02` | a holiday | no opening of the week begins on it; without a year: each year |
//! | `2026-12-19 10:00-16:00` | an opening of one day | it is also open then, holiday or not |
//!
//! What a line says are times of the clocks on the wall. Where these jump forward, a time that is left out
//! is the moment of the jump: an opening that is left out as a whole is none. Where they are set back, an
//! opening lasts from the first time that they show its begin to the last time that they show its end.

use contract::UtcMillis;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};

/// Days that [`Hours::next_change`] looks ahead: a year, whatever its holidays.
const AHEAD_DAYS: usize = 400;
/// Minutes of a day.
const DAY_MINUTES: u16 = 24 * 60;
/// Words of the days of the week, in the order of their numbers.
const DAYS: [&str; 7] = ["mo", "tu", "we", "th", "fr", "sa", "su"];

/// Hours of one place.
#[derive(Clone, Debug, PartialEq)]
pub struct Hours {
    zone: TimeZone,
    week: Vec<Weekly>,
    holidays: Vec<Holiday>,
    also: Vec<Extra>,
}

impl Hours {
    /// Reads the lines; `None` if one of them, or the zone, is none.
    ///
    /// Bounds: `HOURS_OPENINGS_MAX` lines of `open`, `HOURS_DAYS_MAX` of each of the others; the
    /// configuration refuses more.
    #[must_use]
    pub fn read(
        zone: &str,
        open: &[String],
        holidays: &[String],
        also: &[String],
    ) -> Option<Hours> {
        Some(Hours {
            zone: self::zone(zone)?,
            week: open
                .iter()
                .map(|line| weekly(line))
                .collect::<Option<_>>()?,
            holidays: holidays
                .iter()
                .map(|line| holiday(line))
                .collect::<Option<_>>()?,
            also: also.iter().map(|line| extra(line)).collect::<Option<_>>()?,
        })
    }

    /// Tells whether it is open at a moment. A moment that no calendar has is none at which it is open.
    #[must_use]
    pub fn is_open(&self, at: UtcMillis) -> bool {
        moment(at).is_some_and(|at| self.is_open_at(at))
    }

    /// Returns when it is next closed, if it is open, or open, if it is closed; `None`: not for a year.
    #[must_use]
    pub fn next_change(&self, after: UtcMillis) -> Option<UtcMillis> {
        let change = self.change_after(moment(after)?)?;
        u64::try_from(change.as_millisecond()).ok().map(UtcMillis)
    }

    /// Says for people whether it is open at a moment, and until when: `open until 2026-11-23 12:30 CET`.
    #[must_use]
    pub fn describe(&self, at: UtcMillis) -> String {
        let Some(at) = moment(at) else {
            return "closed".to_owned();
        };
        let word = if self.is_open_at(at) {
            "open"
        } else {
            "closed"
        };
        match self.change_after(at) {
            Some(change) => {
                let change = change.to_zoned(self.zone.clone());
                format!("{word} until {}", change.strftime("%Y-%m-%d %H:%M %Z"))
            }
            None => format!("{word} for the next {AHEAD_DAYS} days"),
        }
    }

    fn is_open_at(&self, at: Timestamp) -> bool {
        let today = self.zone.to_datetime(at).date();
        let days = [today.yesterday().ok(), Some(today)];
        days.into_iter().flatten().any(|day| {
            let mut openings = self.openings(day);
            openings.any(|(begin, end)| (begin..end).contains(&at))
        })
    }

    fn change_after(&self, at: Timestamp) -> Option<Timestamp> {
        let is_open = self.is_open_at(at);
        // An opening of yesterday may still last.
        let mut day = self.zone.to_datetime(at).date().yesterday().ok()?;
        for _ in 0..AHEAD_DAYS {
            let edges = self
                .openings(day)
                .flat_map(|(begin, end)| [begin, end])
                .filter(|edge| *edge > at && self.is_open_at(*edge) != is_open);
            if let Some(first) = edges.min() {
                return Some(first);
            }
            day = day.tomorrow().ok()?;
        }
        None
    }

    /// Returns what begins on a day: when, and when it is over.
    fn openings(&self, day: Date) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let is_holiday = self.holidays.iter().any(|holiday| holiday.has(day));
        let number = usize::from(day.weekday().to_monday_zero_offset().unsigned_abs());
        let week = self.week.iter();
        let week = week.filter(move |one| !is_holiday && one.days[number]);
        let also = self.also.iter().filter(move |one| one.day == day);
        let times = week.map(|one| one.times).chain(also.map(|one| one.times));
        times.filter_map(move |times| {
            let begin = self.moment_of(day, times.from, Edge::Begin)?;
            let end = match times.to > times.from {
                true => self.moment_of(day, times.to, Edge::End)?,
                false => self.moment_of(day.tomorrow().ok()?, times.to, Edge::End)?,
            };
            Some((begin, end))
        })
    }

    /// Returns when the clocks on the wall show a minute of a day.
    fn moment_of(&self, day: Date, minute: u16, edge: Edge) -> Option<Timestamp> {
        let (day, minute) = match minute {
            DAY_MINUTES => (day.tomorrow().ok()?, 0),
            other => (day, other),
        };
        let hour = i8::try_from(minute / 60).ok()?;
        let shown: DateTime = day.at(hour, i8::try_from(minute % 60).ok()?, 0, 0);
        let offset = match self.zone.to_ambiguous_timestamp(shown).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset,
            AmbiguousOffset::Gap { after, .. } => {
                // By the clocks after the jump it is before the jump.
                let before = after.to_timestamp(shown).ok()?;
                let jump = self.zone.following(before).next()?;
                return Some(jump.timestamp());
            }
            AmbiguousOffset::Fold { before, after } => match edge {
                Edge::Begin => before,
                Edge::End => after,
            },
        };
        offset.to_timestamp(shown).ok()
    }
}

/// Which end of an opening is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    Begin,
    End,
}

/// From when to when, in minutes of the day; not after `from`: on the next day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    from: u16,
    to: u16,
}

/// An opening of the week.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Weekly {
    /// From Monday on.
    days: [bool; 7],
    times: Times,
}

/// An opening of one day.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Extra {
    day: Date,
    times: Times,
}

/// Days on which nothing of the week begins; both ends belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Holiday {
    /// Once.
    Once(Date, Date),
    /// Each year: months and days; the last may be before the first: in the next year.
    Yearly((i8, i8), (i8, i8)),
}

impl Holiday {
    fn has(&self, day: Date) -> bool {
        let of_year = (day.month(), day.day());
        match self {
            Holiday::Once(first, last) => (*first..=*last).contains(&day),
            Holiday::Yearly(first, last) if first <= last => (*first..=*last).contains(&of_year),
            Holiday::Yearly(first, last) => of_year >= *first || of_year <= *last,
        }
    }
}

/// Tells whether a text is the name of a time zone.
#[must_use]
pub fn is_zone(text: &str) -> bool {
    zone(text).is_some()
}

/// Tells whether a line is an opening of the week.
#[must_use]
pub fn is_weekly(line: &str) -> bool {
    weekly(line).is_some()
}

/// Tells whether a line is a holiday, or several that follow one another.
#[must_use]
pub fn is_holiday(line: &str) -> bool {
    holiday(line).is_some()
}

/// Tells whether a line is an opening of one day.
#[must_use]
pub fn is_extra(line: &str) -> bool {
    extra(line).is_some()
}

fn moment(at: UtcMillis) -> Option<Timestamp> {
    let ms = i64::try_from(at.0).ok()?;
    Timestamp::from_millisecond(ms).ok()
}

fn zone(text: &str) -> Option<TimeZone> {
    let zone = TimeZone::get(text).ok()?;
    (!zone.is_unknown()).then_some(zone)
}

fn weekly(line: &str) -> Option<Weekly> {
    let (named, times) = line.split_once(' ')?;
    let mut days = [false; 7];
    for part in named.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |word: &str| DAYS.iter().position(|day| *day == word);
        let (mut at, last) = (number(first)?, number(last)?);
        loop {
            days[at] = true;
            if at == last {
                break;
            }
            at = (at + 1) % DAYS.len();
        }
    }
    let times = self::times(times)?;
    Some(Weekly { days, times })
}

fn extra(line: &str) -> Option<Extra> {
    let (day, times) = line.split_once(' ')?;
    let (day, times) = (date(day)?, self::times(times)?);
    Some(Extra { day, times })
}

fn holiday(line: &str) -> Option<Holiday> {
    let (first, last) = line.split_once("..").unwrap_or((line, line));
    if let (Some(first), Some(last)) = (date(first), date(last)) {
        return (first <= last).then_some(Holiday::Once(first, last));
    }
    Some(Holiday::Yearly(day_of_year(first)?, day_of_year(last)?))
}

fn times(text: &str) -> Option<Times> {
    let (from, to) = text.split_once('-')?;
    let (from, to) = (minute(from)?, minute(to)?);
    (from != to && from != DAY_MINUTES).then_some(Times { from, to })
}

fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute): (u16, u16) = (number(hour, 2)?, number(minute, 2)?);
    let of_day = hour * 60 + minute;
    (minute < 60 && of_day <= DAY_MINUTES).then_some(of_day)
}

fn date(text: &str) -> Option<Date> {
    let (year, of_year) = text.split_once('-')?;
    let (month, day) = of_year.split_once('-')?;
    Date::new(number(year, 4)?, number(month, 2)?, number(day, 2)?).ok()
}

/// Reads a month and a day that some year has.
fn day_of_year(text: &str) -> Option<(i8, i8)> {
    let (month, day) = text.split_once('-')?;
    let in_leap_year = Date::new(2024, number(month, 2)?, number(day, 2)?).ok()?;
    Some((in_leap_year.month(), in_leap_year.day()))
}

/// Reads a number of so many digits, with nothing else.
fn number<N: std::str::FromStr>(text: &str, digits: usize) -> Option<N> {
    let is_plain = text.len() == digits && text.bytes().all(|octet| octet.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
#[path = "hours_tests.rs"]
mod tests;
