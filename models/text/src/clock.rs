//! `strftime_now` for templates that state the date. UTC, the directives that published templates use.

use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];

pub(crate) fn strftime_now(format: &str) -> String {
    let secs = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    strftime(format, secs)
}

/// `format` at `secs` after 1970; a directive that is not known stays as it is.
fn strftime(format: &str, secs: u64) -> String {
    let (days, time) = (secs / 86_400, secs % 86_400);
    let (year, month, day) = civil_from_days(days);
    let name = MONTHS[month - 1];
    let weekday = DAYS[usize::try_from(days % 7).unwrap_or(0)];
    let mut text = String::new();
    let mut rest = format.chars();
    while let Some(char) = rest.next() {
        let directive = if char == '%' { rest.next() } else { None };
        let formatted = match directive {
            None => char.to_string(),
            Some('Y') => year.to_string(),
            Some('y') => two(year % 100),
            Some('m') => two(month as u64),
            Some('d') => two(day),
            Some('B') => name.to_owned(),
            Some('b') => name[..3].to_owned(),
            Some('A') => weekday.to_owned(),
            Some('a') => weekday[..3].to_owned(),
            Some('H') => two(time / 3600),
            Some('M') => two(time / 60 % 60),
            Some('S') => two(time % 60),
            Some('%') => "%".to_owned(),
            Some(other) => format!("%{other}"),
        };
        text.push_str(&formatted);
    }
    text
}

fn two(number: u64) -> String {
    format!("{number:02}")
}

/// Year, month (from 1) and day of a day count from 1970-01-01, by eras of 400 years that begin in March.
fn civil_from_days(days: u64) -> (u64, usize, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (
        era * 400 + year_of_era + u64::from(month <= 2),
        usize::try_from(month).unwrap_or(1),
        day,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_as_date_does() {
        // date -u -d @N '+%A %a %d %B %b %Y %y %m %H:%M:%S'
        let format = "%A %a %d %B %b %Y %y %m %H:%M:%S %% %q";
        assert_eq!(
            strftime(format, 951_782_399),
            "Monday Mon 28 February Feb 2000 00 02 23:59:59 % %q"
        );
        assert_eq!(strftime("%d %b %Y", 951_782_400), "29 Feb 2000");
        assert_eq!(strftime("%Y-%m-%d %a", 1_767_225_599), "2025-12-31 Wed");
        assert_eq!(strftime("%Y-%m-%d", 0), "1970-01-01");
    }
}
