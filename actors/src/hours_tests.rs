//! Hours are those of the clocks on the wall, wherever these hang and however they are set.

use super::*;

fn utc(text: &str) -> UtcMillis {
    let at: Timestamp = text.parse().expect("a moment");
    UtcMillis(u64::try_from(at.as_millisecond()).expect("after 1970"))
}

fn owned(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

fn hours(zone: &str, open: &[&str], holidays: &[&str], also: &[&str]) -> Hours {
    Hours::read(zone, &owned(open), &owned(holidays), &owned(also)).expect("lines that are read")
}

/// Asserts at which moments it opens and closes: it is closed before the first, and each is the next
/// change of the one before.
fn assert_changes(hours: &Hours, from: &str, changes: &[&str]) {
    let mut at = utc(from);
    assert!(!hours.is_open(at), "{from}: open");
    for (number, change) in changes.iter().enumerate() {
        let next = hours.next_change(at).expect("a change");
        let shown = Timestamp::from_millisecond(i64::try_from(next.0).expect("near"));
        assert_eq!(next, utc(change), "{shown:?} instead of {change}");
        let is_open = number % 2 == 0;
        let before = UtcMillis(next.0 - 1);
        assert_eq!(hours.is_open(next), is_open, "at {change}");
        assert_eq!(hours.is_open(before), !is_open, "just before {change}");
        at = next;
    }
}

/// Zone, opening, a moment before, then begin and end in turn.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
);

/// Both days of a year on which clocks are set, north and south of the equator, by an hour and by half
/// of one, in the middle of openings and at their ends.
const SWITCHES: [Row; 15] = [
    // 29 March 2026, 02:00 CET is 03:00 CEST: the office opens an hour earlier of the world's time.
    (
        "Europe/Berlin",
        "mo-su 08:00-12:30",
        "2026-03-28T12:00:00Z",
        &[
            "2026-03-29T06:00:00Z",
            "2026-03-29T10:30:00Z",
            "2026-03-30T06:00:00Z",
        ],
    ),
    // It opens at a time that is left out: at the jump.
    (
        "Europe/Berlin",
        "su 02:30-05:00",
        "2026-03-28T12:00:00Z",
        &["2026-03-29T01:00:00Z", "2026-03-29T03:00:00Z"],
    ),
    // It closes at such a time.
    (
        "Europe/Berlin",
        "sa 22:00-02:30",
        "2026-03-28T12:00:00Z",
        &["2026-03-28T21:00:00Z", "2026-03-29T01:00:00Z"],
    ),
    // All of it is left out: the next one is a week later.
    (
        "Europe/Berlin",
        "su 02:15-02:45",
        "2026-03-28T12:00:00Z",
        &["2026-04-05T00:15:00Z", "2026-04-05T00:45:00Z"],
    ),
    // A day of 23 hours, all of it.
    (
        "Europe/Berlin",
        "su 00:00-24:00",
        "2026-03-28T12:00:00Z",
        &["2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"],
    ),
    // 25 October 2026, 03:00 CEST is 02:00 CET: one of 25 hours.
    (
        "Europe/Berlin",
        "su 00:00-24:00",
        "2026-10-24T12:00:00Z",
        &["2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"],
    ),
    // It opens at a time that there is twice: at the first; it closes at one: at the last.
    (
        "Europe/Berlin",
        "su 02:30-04:00",
        "2026-10-24T12:00:00Z",
        &["2026-10-25T00:30:00Z", "2026-10-25T03:00:00Z"],
    ),
    (
        "Europe/Berlin",
        "sa 22:00-02:30",
        "2026-10-24T12:00:00Z",
        &["2026-10-24T20:00:00Z", "2026-10-25T01:30:00Z"],
    ),
    // Both: an opening is one, not two.
    (
        "Europe/Berlin",
        "su 02:15-02:45",
        "2026-10-24T12:00:00Z",
        &["2026-10-25T00:15:00Z", "2026-10-25T01:45:00Z"],
    ),
    // 8 March and 1 November 2026.
    (
        "America/New_York",
        "mo-su 09:00-17:00",
        "2026-03-07T23:00:00Z",
        &[
            "2026-03-08T13:00:00Z",
            "2026-03-08T21:00:00Z",
            "2026-03-09T13:00:00Z",
        ],
    ),
    (
        "America/New_York",
        "sa 20:00-01:30",
        "2026-10-31T12:00:00Z",
        &["2026-11-01T00:00:00Z", "2026-11-01T06:30:00Z"],
    ),
    // South of the equator summer begins on 4 October and ends on 5 April.
    (
        "Australia/Sydney",
        "su 02:30-06:00",
        "2026-10-03T12:00:00Z",
        &["2026-10-03T16:00:00Z", "2026-10-03T19:00:00Z"],
    ),
    (
        "Australia/Sydney",
        "su 02:30-06:00",
        "2026-04-04T12:00:00Z",
        &["2026-04-04T15:30:00Z", "2026-04-04T20:00:00Z"],
    ),
    // By half an hour: 4 October, 02:00 is 02:30.
    (
        "Australia/Lord_Howe",
        "su 02:10-03:00",
        "2026-10-03T12:00:00Z",
        &["2026-10-03T15:30:00Z", "2026-10-03T16:00:00Z"],
    ),
    // Nothing is set where nobody does; a quarter of an hour off.
    (
        "Asia/Kathmandu",
        "mo 09:00-10:00",
        "2026-03-29T12:00:00Z",
        &["2026-03-30T03:15:00Z", "2026-03-30T04:15:00Z"],
    ),
];

#[test]
fn openings_follow_clocks_that_are_set_forward_and_back() {
    for (zone, open, from, changes) in SWITCHES {
        assert_changes(&hours(zone, &[open], &[], &[]), from, changes);
    }
}

#[test]
fn a_day_that_a_zone_left_out_has_no_openings_and_ends_what_lasts() {
    // Samoa went over the date line: 30 December 2011 was not.
    let week = hours("Pacific/Apia", &["fr 08:00-12:00"], &[], &[]);
    assert_changes(
        &week,
        "2011-12-29T12:00:00Z",
        &["2012-01-05T18:00:00Z", "2012-01-05T22:00:00Z"],
    );
    let night = hours("Pacific/Apia", &["th 22:00-02:00"], &[], &[]);
    assert_changes(
        &night,
        "2011-12-29T12:00:00Z",
        &["2011-12-30T08:00:00Z", "2011-12-30T10:00:00Z"],
    );
}

#[test]
fn several_openings_of_a_day_touch_overlap_and_go_over_midnight() {
    let office = ["mo-fr 08:00-12:30", "mo-fr 13:30-18:00", "sa 09:00-12:00"];
    let office = hours("UTC", &office, &[], &[]);
    assert_changes(
        &office,
        "2026-11-20T03:00:00Z",
        &[
            "2026-11-20T08:00:00Z",
            "2026-11-20T12:30:00Z",
            "2026-11-20T13:30:00Z",
            "2026-11-20T18:00:00Z",
            "2026-11-21T09:00:00Z",
            "2026-11-21T12:00:00Z",
            "2026-11-23T08:00:00Z",
        ],
    );
    // Friday to Monday over the end of the week; what touches is one opening.
    let nights = hours(
        "UTC",
        &["fr-mo 22:00-02:00", "sa 02:00-04:00", "su 01:00-03:00"],
        &[],
        &[],
    );
    assert_changes(
        &nights,
        "2026-11-20T12:00:00Z",
        &[
            "2026-11-20T22:00:00Z",
            "2026-11-21T04:00:00Z",
            "2026-11-21T22:00:00Z",
            "2026-11-22T03:00:00Z",
            "2026-11-22T22:00:00Z",
            "2026-11-23T02:00:00Z",
            "2026-11-23T22:00:00Z",
            "2026-11-24T02:00:00Z",
            "2026-11-27T22:00:00Z",
        ],
    );
    let always = hours("UTC", &["mo-su 00:00-24:00"], &[], &[]);
    assert!(always.is_open(utc("2026-11-20T00:00:00Z")));
    assert_eq!(always.next_change(utc("2026-11-20T12:00:00Z")), None);
}

#[test]
fn no_opening_of_the_week_begins_on_a_holiday_but_extra_ones_do() {
    let shop = hours(
        "Europe/Vienna",
        &["mo-su 10:00-18:00"],
        &[
            "2026-12-25",
            "12-26",
            "12-31..01-01",
            "2027-01-03..2027-01-04",
        ],
        &["2026-12-25 11:00-12:00", "2027-01-01 22:00-01:00"],
    );
    assert_changes(
        &shop,
        "2026-12-24T20:00:00Z",
        &[
            // The holiday that is open for an hour all the same.
            "2026-12-25T10:00:00Z",
            "2026-12-25T11:00:00Z",
            // 26 December is one of each year.
            "2026-12-27T09:00:00Z",
            "2026-12-27T17:00:00Z",
            "2026-12-28T09:00:00Z",
            "2026-12-28T17:00:00Z",
            "2026-12-29T09:00:00Z",
            "2026-12-29T17:00:00Z",
            "2026-12-30T09:00:00Z",
            "2026-12-30T17:00:00Z",
            "2027-01-01T21:00:00Z",
            "2027-01-02T00:00:00Z",
            "2027-01-02T09:00:00Z",
            "2027-01-02T17:00:00Z",
            "2027-01-05T09:00:00Z",
        ],
    );
    // The next year 25 December is a day like others, the 26th is not.
    assert!(shop.is_open(utc("2027-12-25T12:00:00Z")));
    assert!(!shop.is_open(utc("2027-12-26T12:00:00Z")));
    // What began the evening before goes on into a holiday, as who works then is there; nothing begins.
    let bar = hours("Europe/Vienna", &["mo-su 20:00-04:00"], &["12-25"], &[]);
    assert_changes(
        &bar,
        "2026-12-24T12:00:00Z",
        &[
            "2026-12-24T19:00:00Z",
            "2026-12-25T03:00:00Z",
            "2026-12-26T19:00:00Z",
        ],
    );
}

#[test]
fn a_leap_day_is_a_day_of_its_year_only() {
    let shop = hours("Europe/Berlin", &["mo-su 09:00-10:00"], &["02-29"], &[]);
    for (at, is_open) in [
        ("2028-02-28T08:30:00Z", true),
        ("2028-02-29T08:30:00Z", false),
        ("2028-03-01T08:30:00Z", true),
        ("2027-02-28T08:30:00Z", true),
        ("2027-03-01T08:30:00Z", true),
    ] {
        assert_eq!(shop.is_open(utc(at)), is_open, "{at}");
    }
    let also = hours("UTC", &[], &[], &["2028-02-29 23:00-01:00"]);
    assert_changes(
        &also,
        "2028-02-28T12:00:00Z",
        &["2028-02-29T23:00:00Z", "2028-03-01T01:00:00Z"],
    );
    assert_eq!(also.next_change(utc("2028-03-02T00:00:00Z")), None);
}

#[test]
fn what_is_open_now_is_said_for_people() {
    let office = hours("Europe/Berlin", &["mo-fr 08:00-12:30"], &[], &[]);
    for (at, said) in [
        ("2026-11-23T10:00:00Z", "open until 2026-11-23 12:30 CET"),
        ("2026-11-23T11:30:00Z", "closed until 2026-11-24 08:00 CET"),
        ("2026-07-03T20:00:00Z", "closed until 2026-07-06 08:00 CEST"),
    ] {
        assert_eq!(office.describe(utc(at)), said, "{at}");
    }
    let never = hours("UTC", &[], &[], &[]);
    assert_eq!(
        never.describe(utc("2026-11-23T10:00:00Z")),
        "closed for the next 400 days"
    );
    // No calendar has it.
    assert!(!office.is_open(UtcMillis(u64::MAX)));
    assert_eq!(office.describe(UtcMillis(u64::MAX)), "closed");
    assert_eq!(office.next_change(UtcMillis(u64::MAX)), None);
}

#[test]
fn lines_that_mean_nothing_or_two_things_are_none() {
    for line in [
        "",
        "mo",
        "mo 08:00",
        "mo  08:00-09:00",
        "MO 08:00-09:00",
        "mon 08:00-09:00",
        "mo- 08:00-09:00",
        "mo, 08:00-09:00",
        "mo 8:00-09:00",
        "mo 08:00-08:00",
        "mo 08:60-09:00",
        "mo 24:00-02:00",
        "mo 23:00-24:01",
        "mo 08:00-09:00 ",
        "mo +8:00-09:00",
        "08:00-09:00",
    ] {
        assert!(!is_weekly(line), "{line:?}");
    }
    for line in [
        "",
        "2026-02-29",
        "02-30",
        "13-01",
        "2026-1-01",
        "2026-12-25..2026-12-24",
        "2026-12-25..12-26",
        "12-25..",
        "12-25-26",
        "20261225",
    ] {
        assert!(!is_holiday(line), "{line:?}");
    }
    for line in ["2026-12-19", "12-19 10:00-16:00", "2026-12-19 10:00"] {
        assert!(!is_extra(line), "{line:?}");
    }
    for zone in ["", "Europe/Nowhere", "CEST", "+01:00", "Etc/Unknown"] {
        assert!(!is_zone(zone), "{zone:?}");
    }
    assert!(
        ["02-29", "12-24..01-02", "2028-02-29"]
            .iter()
            .all(|line| is_holiday(line))
    );
    assert!(
        ["UTC", "Asia/Kolkata", "America/Sao_Paulo"]
            .iter()
            .all(|zone| is_zone(zone))
    );
}
