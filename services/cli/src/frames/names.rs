//! Names of written pictures.

use std::str::FromStr;

use reelsight_media::RgbFrame;

/// Digits that a number can be padded to.
const MAX_WIDTH: usize = 20;

/// A pattern such as `frame-{index:8}`, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamePattern(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Index,
    Number,
    Pts,
    Time,
}

impl FromStr for NamePattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains(['/', '\\', '\0']) || text.starts_with('.') {
            return Err("must be a file name: no folders, and no dot at its start".to_owned());
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, field)) = rest.split_once('{') {
            let (field, after) = field.split_once('}').ok_or("has a { without }")?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(self::field(field)?);
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        if parts.iter().all(|part| matches!(part, Part::Text(_))) {
            return Err(
                "gives every picture the same name: use {index}, {number}, {pts} or {time}".to_owned(),
            );
        }
        Ok(Self(parts))
    }
}

fn field(text: &str) -> Result<Part, String> {
    let (name, width) = text.split_once(':').unwrap_or((text, "0"));
    let field = match name {
        "index" => Field::Index,
        "number" => Field::Number,
        "pts" => Field::Pts,
        "time" => Field::Time,
        _ => {
            return Err(format!(
                "{{{name}}} is unknown: use {{index}}, {{number}}, {{pts}} or {{time}}"
            ));
        }
    };
    match width.parse::<usize>() {
        Ok(width) if width <= MAX_WIDTH => Ok(Part::Field(field, width)),
        _ => Err(format!(
            "pads with zeros to at most {MAX_WIDTH} digits, for example {{index:8}}"
        )),
    }
}

impl NamePattern {
    /// The name of a frame, the `number`-th of the selection from 0, whose time stamp in the file is `pts`.
    pub(crate) fn name(&self, frame: &RgbFrame, number: usize, pts: i64) -> String {
        let shown = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Field(Field::Index, width) => format!("{:0width$}", frame.index),
            Part::Field(Field::Number, width) => format!("{number:0width$}"),
            Part::Field(Field::Pts, width) => format!("{pts:0width$}"),
            Part::Field(Field::Time, width) => {
                format!("{:0>width$}", frame.time.to_string().replace(':', "-"))
            }
        };
        self.0.iter().map(shown).collect()
    }
}

#[cfg(test)]
mod tests {
    use reelsight_media::{MediaTime, Pts, TimeBase};

    use super::*;

    fn name(pattern: &str) -> String {
        let base = TimeBase::new(1, 1000).unwrap();
        let time = MediaTime {
            pts: Pts(62_345),
            base,
        };
        let frame = RgbFrame {
            width: 1,
            height: 1,
            data: vec![0; 3].into(),
            index: 1870,
            time,
            damaged: false,
        };
        pattern.parse::<NamePattern>().unwrap().name(&frame, 7, -5)
    }

    #[test]
    fn names_follow_the_pattern() {
        assert_eq!(name("frame-{index:8}"), "frame-00001870");
        assert_eq!(name("{number}-{time}"), "7-00-01-02.345");
        assert_eq!(name("p{pts:4}x"), "p-005x");
    }

    #[test]
    fn patterns_that_lose_pictures_are_refused() {
        for wrong in [
            "",
            "same",
            "{",
            "{index",
            "{nothing}",
            "a/{index}",
            "../{index}",
            ".{index}",
            "{index:99}",
            "{index:x}",
        ] {
            assert!(wrong.parse::<NamePattern>().is_err(), "{wrong}");
        }
    }
}
