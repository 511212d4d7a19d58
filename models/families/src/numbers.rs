//! Numbers in English words and durations, to the letter as the reference processors print them.

const SMALL: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 10] = [
    "", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
];

/// `number` in words.
///
/// # Source
/// `num2words` 0.5 for English, below a million: "one thousand, two hundred and thirty-four".
pub(crate) fn words(number: usize) -> String {
    match number {
        0..20 => SMALL[number].to_owned(),
        20..100 => match number % 10 {
            0 => TENS[number / 10].to_owned(),
            ones => format!("{}-{}", TENS[number / 10], SMALL[ones]),
        },
        100..1000 => joined(&format!("{} hundred", SMALL[number / 100]), number % 100),
        _ => joined(&format!("{} thousand", words(number / 1000)), number % 1000),
    }
}

fn joined(head: &str, rest: usize) -> String {
    match rest {
        0 => head.to_owned(),
        1..100 => format!("{head} and {}", words(rest)),
        _ => format!("{head}, {}", words(rest)),
    }
}

/// `secs` as Python prints a `timedelta`: `H:MM:SS`, with `D days, ` before it from a day on.
pub(crate) fn duration(secs: u64) -> String {
    let time = format!("{}:{:02}:{:02}", secs / 3600 % 24, secs / 60 % 60, secs % 60);
    match secs / 86_400 {
        0 => time,
        1 => format!("1 day, {time}"),
        days => format!("{days} days, {time}"),
    }
}

/// `secs` as `MM:SS`; the minutes go on beyond 59.
pub(crate) fn stamp(secs: u64) -> String {
    format!("{:02}:{:02}", secs / 60, secs % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_num2words() {
        // python -c 'from num2words import num2words; print([num2words(n) for n in ...])'
        let known = [
            (0, "zero"),
            (12, "twelve"),
            (20, "twenty"),
            (99, "ninety-nine"),
            (100, "one hundred"),
            (110, "one hundred and ten"),
            (121, "one hundred and twenty-one"),
            (999, "nine hundred and ninety-nine"),
            (1000, "one thousand"),
            (1001, "one thousand and one"),
            (1100, "one thousand, one hundred"),
            (2345, "two thousand, three hundred and forty-five"),
            (
                123_456,
                "one hundred and twenty-three thousand, four hundred and fifty-six",
            ),
        ];
        for (number, expected) in known {
            assert_eq!(words(number), expected);
        }
    }

    #[test]
    fn durations_are_those_of_timedelta() {
        let known = [
            (59, "0:00:59"),
            (86_399, "23:59:59"),
            (90_061, "1 day, 1:01:01"),
            (172_800, "2 days, 0:00:00"),
        ];
        for (secs, expected) in known {
            assert_eq!(duration(secs), expected);
        }
        assert_eq!(stamp(6_001), "100:01");
    }
}
