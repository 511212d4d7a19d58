//! Stop strings over a stream of text pieces.

/// Finds stop strings wherever the pieces split them, and holds back text only as long as it could become one.
#[derive(Debug)]
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
}

/// What a piece of text leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matched {
    /// Text that certainly belongs to the answer.
    pub text: String,
    /// Whether a stop string was found; the text before it is in `text`, nothing more will come.
    pub stopped: bool,
}

impl StopMatcher {
    /// A matcher for `stops`; empty ones are ignored.
    #[must_use]
    pub fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self {
            stops,
            held: String::new(),
        }
    }

    /// Adds a piece.
    pub fn push(&mut self, piece: &str) -> Matched {
        self.held.push_str(piece);
        if let Some(at) = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()))
            .min()
        {
            self.held.truncate(at);
            return Matched {
                text: std::mem::take(&mut self.held),
                stopped: true,
            };
        }
        let rest = self.held.split_off(self.held.len() - self.undecided());
        Matched {
            text: std::mem::replace(&mut self.held, rest),
            stopped: false,
        }
    }

    /// What was held back; the stream has ended.
    #[must_use]
    pub fn finish(self) -> String {
        self.held
    }

    /// Bytes of the longest end of the held text that begins a stop string.
    fn undecided(&self) -> usize {
        let longest = |stop: &String| {
            let starts = stop.char_indices().map(|(at, _)| at).skip(1);
            starts.filter(|&len| self.held.ends_with(&stop[..len])).max()
        };
        self.stops.iter().filter_map(longest).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let stops: Vec<_> = stops.iter().map(ToString::to_string).collect();
        let mut matcher = StopMatcher::new(&stops);
        let mut all = String::new();
        for piece in pieces {
            let Matched { text, stopped } = matcher.push(piece);
            all.push_str(&text);
            if stopped {
                return (all, true);
            }
        }
        (all + &matcher.finish(), false)
    }

    #[test]
    fn finds_a_stop_across_pieces_and_gives_the_text_before_it() {
        assert_eq!(
            run(&["\n\n", "END"], &["a\n", "b E", "N", "D c"]),
            ("a\nb ".into(), true)
        );
        assert_eq!(run(&["END"], &["E", "N", "d"]), ("ENd".into(), false));
        assert_eq!(run(&["aab"], &["a", "a", "a", "b"]), ("a".into(), true));
    }

    #[test]
    fn holds_back_no_more_than_needed() {
        let mut matcher = StopMatcher::new(&["\u{e9}t\u{e9}".into()]);
        assert_eq!(matcher.push("un \u{e9}t").text, "un ");
        assert_eq!(matcher.push("at").text, "\u{e9}tat");
    }

    proptest! {
        #[test]
        fn equals_a_search_over_the_whole_text(
            pieces in prop::collection::vec("[ab\u{e9}]{0,4}", 0..12),
            stops in prop::collection::vec("[ab\u{e9}]{1,3}", 0..3),
        ) {
            let whole = pieces.concat();
            let found = stops.iter().filter_map(|stop| Some((whole.find(stop.as_str())?, stop.len()))).collect::<Vec<_>>();
            // The stream ends at the stop that is complete first; among those, the earliest start wins.
            let end = found.iter().map(|(at, len)| at + len).min();
            let pieces: Vec<_> = pieces.iter().flat_map(|piece| piece.split_inclusive(|_| true)).collect();
            let stops: Vec<_> = stops.iter().map(String::as_str).collect();
            let (text, stopped) = run(&stops, &pieces);
            prop_assert_eq!(stopped, end.is_some());
            match end {
                None => prop_assert_eq!(text, whole),
                Some(end) => {
                    let start = found.iter().filter(|(at, len)| at + len == end).map(|(at, _)| *at).min();
                    prop_assert_eq!(text, &whole[..start.unwrap()]);
                }
            }
        }
    }
}
