//! Value types of the configuration that have a grammar of their own.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, SeqAccess, Unexpected, Visitor};
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
        deserializer.deserialize_any(IntSetVisitor)
    }
}

/// By hand and not as an untagged enum, whose errors say nothing about the value.
struct IntSetVisitor;

impl<'de> Visitor<'de> for IntSetVisitor {
    type Value = IntSet;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers and ranges like 80,8000-8999, or a list of them")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<IntSet, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<IntSet, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<IntSet, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_unit<E: de::Error>(self) -> Result<IntSet, E> {
        Ok(IntSet::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<IntSet, A::Error> {
        let mut all = IntSet::default();
        while let Some(part) = parts.next_element::<IntSet>()? {
            all.extend(&part);
        }
        Ok(all)
    }
}

/// A glob over a whole string: `*` (crosses `/`), `?`, `{a,b}`, `[a-z]`, `[!x]`.
#[derive(Clone)]
pub struct Glob {
    text: String,
    matcher: globset::GlobMatcher,
}

/// Without the matcher, which is pages long.
impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Glob").field(&self.text).finish()
    }
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
            .map_err(|error| format!("`{text}` is no glob: {}", error.kind()))?
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

const UNITS: [(&str, u128); 7] = [
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
        if rest.is_empty() {
            return Err(bad());
        }
        let mut nanos = 0_u128;
        while !rest.is_empty() {
            let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
            let (number, after) = rest.split_at(number_end);
            let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
            let (unit, after) = after.split_at(unit_end);
            let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
            nanos += scaled(number, *scale).ok_or_else(bad)?;
            // Go's own limit: what an i64 of nanoseconds holds, about 292 years.
            if nanos > i64::MAX as u128 {
                return Err(bad());
            }
            rest = after;
        }
        u64::try_from(nanos).map(|nanos| Self(Duration::from_nanos(nanos))).map_err(|_| bad())
    }
}

/// `number`, which may have a fraction, times `scale`, in integers so that nothing is rounded away.
fn scaled(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    // The smallest unit times 10^-18 is far below a nanosecond: further digits change nothing.
    let fraction = fraction.get(..fraction.len().min(18))?;
    let part = if fraction.is_empty() {
        0
    } else {
        let digits = u32::try_from(fraction.len()).ok()?;
        u128::from(fraction.parse::<u64>().ok()?) * scale / 10_u128.pow(digits)
    };
    Some(u128::from(whole) * scale + part)
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
        deserializer.deserialize_any(SpanVisitor)
    }
}

struct SpanVisitor;

impl Visitor<'_> for SpanVisitor {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration like 500ms, 5s or 1m30s")
    }

    // Go's YAML takes a bare number for nanoseconds, which nobody means.
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Span, E> {
        match number {
            0 => Ok(Span::default()),
            _ => Err(E::custom(format!("`{number}` has no unit, as in {number}s"))),
        }
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Span, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
        text.parse().map_err(E::custom)
    }
}

/// Reads a number of bytes: `4194304`, `4MiB`, `512KiB`.
pub(super) fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    struct Bytes;

    impl Visitor<'_> for Bytes {
        type Value = u32;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number of bytes below 4GiB, like 4194304 or 4MiB")
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<u32, E> {
            u32::try_from(number).map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<u32, E> {
            u32::try_from(number).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<u32, E> {
            let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];
            let (number, unit) = units
                .iter()
                .find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))
                .unwrap_or((text, 1));
            let number = number.trim().parse::<u32>().ok();
            number
                .and_then(|number| number.checked_mul(unit))
                .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
        }
    }
    deserializer.deserialize_any(Bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    #[test]
    fn odd_durations() {
        let nanos = |text: &str| text.parse::<Span>().map(|span| span.0.as_nanos());
        assert_eq!(nanos("1h2m3s4ms5us6ns"), Ok(3_723_004_005_006));
        assert_eq!(nanos(".5s"), Ok(500_000_000));
        assert_eq!(nanos("1.s"), Ok(1_000_000_000));
        assert_eq!(nanos("1.0000000001s"), Ok(1_000_000_000));
        assert_eq!(nanos("0s"), Ok(0));
        for bad in ["-1s", ".s", "1..5s", "1 s", "s", "1m30", "9999999999h", "1.5.5s", "1µ", "∞s"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_duration_comes_back_as_it_went(nanos in 0..i64::MAX as u64) {
            let span = Span(Duration::from_nanos(nanos));
            prop_assert_eq!(span.to_string().parse::<Span>(), Ok(span));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9.nuµmshx \\-]{0,12}|.*") {
            if let Ok(span) = text.parse::<Span>() {
                prop_assert_eq!(span.to_string().parse::<Span>(), Ok(span));
            }
            if let Ok(set) = text.parse::<IntSet>() {
                prop_assert_eq!(set.to_string().parse::<IntSet>(), Ok(set));
            }
            let _glob_or_error = text.parse::<Glob>();
        }
    }
}
