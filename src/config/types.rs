//! Value types of the configuration that have a grammar of their own.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A set of ports or pids: `80,443,8000-8999`. YAML may also give a number or a list of numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntSet(Vec<RangeInclusive<u32>>);

impl IntSet {
    /// Whether `value` is in the set.
    #[must_use]
    pub fn contains(&self, value: u32) -> bool {
        self.0.iter().any(|range| range.contains(&value))
    }

    /// Whether the set is empty, that is, selects by nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges as written.
    pub fn ranges(&self) -> impl Iterator<Item = &RangeInclusive<u32>> {
        self.0.iter()
    }

    /// Adds all members of `other`.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend(other.0.iter().cloned());
    }
}

impl FromStr for IntSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |part: &str| {
            part.trim()
                .parse::<u32>()
                .map_err(|_| format!("`{}` is not a number or a range like 8000-8999", part.trim()))
        };
        let mut ranges = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let range = match part.split_once('-') {
                Some((low, high)) => number(low)?..=number(high)?,
                None => number(part)?..=number(part)?,
            };
            if range.is_empty() {
                return Err(format!("`{part}` ends before it starts"));
            }
            ranges.push(range);
        }
        Ok(Self(ranges))
    }
}

impl fmt::Display for IntSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if range.start() == range.end() {
                write!(f, "{comma}{}", range.start())?;
            } else {
                write!(f, "{comma}{}-{}", range.start(), range.end())?;
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for IntSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            One(u32),
            Text(String),
            Many(Vec<Raw>),
        }
        fn text(raw: Raw) -> String {
            match raw {
                Raw::One(number) => number.to_string(),
                Raw::Text(text) => text,
                Raw::Many(parts) => parts.into_iter().map(text).collect::<Vec<_>>().join(","),
            }
        }
        text(Raw::deserialize(deserializer)?).parse().map_err(serde::de::Error::custom)
    }
}

/// A glob over a whole string: `*` (crosses `/`), `?`, `{a,b}`, `[a-z]`, `[!x]`.
#[derive(Clone, Debug)]
pub struct Glob {
    text: String,
    matcher: globset::GlobMatcher,
}

impl Glob {
    /// Whether the whole of `text` matches. An empty glob matches everything.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.text.is_empty() || self.matcher.is_match(text)
    }

    /// As written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Glob {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Glob {}

impl FromStr for Glob {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let matcher = globset::GlobBuilder::new(text)
            .literal_separator(false)
            .empty_alternates(true)
            .build()
            .map_err(|error| error.kind().to_string())?
            .compile_matcher();
        Ok(Self { text: text.to_owned(), matcher })
    }
}

impl<'de> Deserialize<'de> for Glob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for IntSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Glob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// A length of time in Go's syntax: `1m30s`, `500ms`, `0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span(pub Duration);

const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || format!("`{text}` is no duration like 500ms, 5s or 1m30s");
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(Self::default());
        }
        let mut nanos = 0_f64;
        if rest.is_empty() {
            return Err(bad());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
            let (number, after) = rest.split_at(digits);
            let number: f64 = number.parse().map_err(|_| bad())?;
            let unit_len = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
            let (unit, after) = after.split_at(unit_len);
            let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
            nanos += number * *scale as f64;
            rest = after;
        }
        if nanos > 9e18 {
            return Err(bad());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
        let nanos = nanos.round() as u64;
        Ok(Self(Duration::from_nanos(nanos)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        for (unit, scale) in [
            ("h", 3_600_000_000_000_u128),
            ("m", 60_000_000_000),
            ("s", 1_000_000_000),
            ("ms", 1_000_000),
            ("us", 1_000),
        ] {
            if nanos > 0 && nanos.is_multiple_of(scale) {
                return write!(f, "{}{unit}", nanos / scale);
            }
        }
        if nanos == 0 { f.write_str("0s") } else { write!(f, "{nanos}ns") }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(u64),
            Text(String),
        }
        match Raw::deserialize(deserializer)? {
            Raw::Number(0) => Ok(Self::default()),
            Raw::Number(number) => {
                Err(serde::de::Error::custom(format!("`{number}` has no unit, as in {number}s")))
            }
            Raw::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_takes_numbers_and_ranges() {
        let set: IntSet = "80, 443,8000-8999".parse().unwrap();
        assert!(set.contains(80) && set.contains(8500) && !set.contains(81));
        assert_eq!(set.to_string(), "80,443,8000-8999");
        assert!("9-1".parse::<IntSet>().is_err());
        assert!("http".parse::<IntSet>().is_err());
    }

    #[test]
    fn a_star_crosses_slashes() {
        let glob: Glob = "*/{nginx,python3*}".parse().unwrap();
        assert!(glob.matches("/usr/sbin/nginx"));
        assert!(glob.matches("/opt/a/b/python3.11"));
        assert!(!glob.matches("/usr/sbin/nginx-debug"));
    }

    #[test]
    fn durations_are_gos() {
        let nanos = |text: &str| text.parse::<Span>().map(|span| span.0.as_millis());
        assert_eq!(nanos("1m30s"), Ok(90_000));
        assert_eq!(nanos("1.5s"), Ok(1_500));
        assert_eq!(nanos("0"), Ok(0));
        assert!(nanos("5").is_err() && nanos("").is_err() && nanos("5x").is_err());
        assert_eq!("90s".parse::<Span>().unwrap().to_string(), "90s");
        assert_eq!("60s".parse::<Span>().unwrap().to_string(), "1m");
    }
}
