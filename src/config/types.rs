//! Value types of the configuration that have a grammar of their own.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

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
}
