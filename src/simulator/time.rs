//! The supplier's clock and the forms in which it is written.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Microseconds since 1970 by the supplier's clock.
pub(super) type Micros = i64;

/// A clock that never goes back: the wall clock is read once, at the start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    wall_at_start: Micros,
    start: Instant,
}

impl Clock {
    pub(super) fn start(ahead_ms: i64) -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_at_start = micros(wall).saturating_add(ahead_ms.saturating_mul(1000));
        Self { wall_at_start, start: Instant::now() }
    }

    pub(super) fn now(&self) -> Micros {
        self.wall_at_start.saturating_add(micros(self.start.elapsed()))
    }
}

pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Year, month, day and day of the week (0 is Thursday) of a day since 1970-01-01.
fn civil(days: i64) -> (i64, usize, i64, usize) {
    // Howard Hinnant's `civil_from_days`: years begin in March, so that the leap day is last.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    (year, month as usize, day, days.rem_euclid(7) as usize)
}

fn digits(out: &mut Vec<u8>, mut value: i64, width: usize) {
    let from = out.len();
    out.resize(from + width, b'0');
    for place in out[from..].iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

fn clock_time(out: &mut Vec<u8>, second_of_day: i64) {
    digits(out, second_of_day / 3600, 2);
    out.push(b':');
    digits(out, second_of_day / 60 % 60, 2);
    out.push(b':');
    digits(out, second_of_day % 60, 2);
}

/// `2011-11-01T08:16:00.123Z`: RFC 3339, UTC, cut to milliseconds.
pub(super) fn write_rfc3339(out: &mut Vec<u8>, at: Micros) {
    let seconds = at.div_euclid(1_000_000);
    let (year, month, day, _) = civil(seconds.div_euclid(86_400));
    digits(out, year, 4);
    out.push(b'-');
    digits(out, month as i64, 2);
    out.push(b'-');
    digits(out, day, 2);
    out.push(b'T');
    clock_time(out, seconds.rem_euclid(86_400));
    out.push(b'.');
    digits(out, at.rem_euclid(1_000_000) / 1000, 3);
    out.push(b'Z');
}

/// The same as text.
pub(super) fn rfc3339(at: Micros) -> String {
    let mut out = Vec::with_capacity(24);
    write_rfc3339(&mut out, at);
    out.iter().map(|byte| char::from(*byte)).collect()
}

/// The value of a `Date` header, written anew once a second.
#[derive(Debug)]
pub(super) struct DateHeader {
    second: i64,
    text: Vec<u8>,
}

impl DateHeader {
    pub(super) fn new() -> Self {
        Self { second: i64::MIN, text: Vec::with_capacity(29) }
    }

    /// `Tue, 01 Nov 2011 08:16:00 GMT`
    pub(super) fn at(&mut self, now: Micros) -> &[u8] {
        const DAYS: [&[u8]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
        const MONTHS: [&[u8]; 12] = [
            b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov",
            b"Dec",
        ];
        let second = now.div_euclid(1_000_000);
        if second != self.second {
            let (year, month, day, weekday) = civil(second.div_euclid(86_400));
            let out = &mut self.text;
            out.clear();
            out.extend_from_slice(DAYS[weekday]);
            out.extend_from_slice(b", ");
            digits(out, day, 2);
            out.push(b' ');
            out.extend_from_slice(MONTHS[month - 1]);
            out.push(b' ');
            digits(out, year, 4);
            out.push(b' ');
            clock_time(out, second.rem_euclid(86_400));
            out.extend_from_slice(b" GMT");
            self.second = second;
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(second: i64) {
        let stamp = jiff::Timestamp::from_second(second).unwrap();
        let date = stamp.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let at = second * 1_000_000 + 7_890;
        assert_eq!(rfc3339(at), stamp.strftime("%Y-%m-%dT%H:%M:%S.007Z").to_string());
        assert_eq!(String::from_utf8_lossy(DateHeader::new().at(at)), date);
    }

    #[test]
    fn dates_are_those_of_jiff_over_two_centuries() {
        for step in 0..80_000 {
            check(step * 86_400 - 2_000_000_000 + step % 86_400);
        }
    }

    #[test]
    fn a_date_header_changes_with_its_second() {
        let mut header = DateHeader::new();
        let first = header.at(1_000_000).to_vec();
        assert_eq!(header.at(1_999_999), first);
        assert_ne!(header.at(2_000_000), first);
    }
}
