//! Values that are one word of a few. Upper and lower case are the same, as in OBI.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal $(| $alias:literal)*),+ $(,)? } default $default:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the names are the values")]
        pub enum $name {
            $($variant),+
        }

        impl Default for $name {
            fn default() -> Self {
                Self::$default
            }
        }

        impl $name {
            /// As written in the configuration.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text.to_ascii_lowercase().as_str() {
                    $($text $(| $alias)* => Ok(Self::$variant),)+
                    _ => Err(format!("`{text}` is none of {}", [$($text),+].join(", "))),
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

words! {
    /// `trace_printer`.
    Printer {
        Disabled = "disabled",
        Text = "text",
        Json = "json",
        JsonIndent = "json_indent",
        Counter = "counter",
        Tree = "tree",
    } default Disabled
}
words! {
    /// `attributes.kubernetes.enable`.
    KubeEnable {
        Autodetect = "autodetect",
        True = "true" | "1" | "on" | "yes",
        False = "false" | "0" | "off" | "no",
    } default Autodetect
}
words! {
    /// `log_level`.
    Level {
        Error = "error",
        Warn = "warn" | "warning",
        Info = "info",
        Debug = "debug",
        Trace = "trace",
    } default Info
}
words! {
    /// `log_format`.
    LogFormat { Text = "text", Json = "json" } default Text
}
words! {
    /// `log_config`.
    LogConfig { Yaml = "yaml", Json = "json" } default Yaml
}
words! {
    /// `otel_traces_export.protocol`.
    ProtocolName { Grpc = "grpc", HttpProtobuf = "http/protobuf" } default HttpProtobuf
}
words! {
    /// `otel_traces_export.compression`.
    Compression { None = "none", Gzip = "gzip" } default None
}
words! {
    /// `spanwire.tier`.
    TierName { Auto = "auto", A = "a", B = "b", C = "c" } default Auto
}
words! {
    /// `spanwire.claim`.
    Claim { Auto = "auto", Lasting = "lasting", Brief = "brief" } default Auto
}
words! {
    /// `internal_metrics.exporter`.
    MetricsExporter { Disabled = "disabled", Prometheus = "prometheus", Otel = "otel" } default Disabled
}

/// `ebpf.context_propagation`: where context is written, `disabled`, `all` or some of
/// `headers,tcp`. OBI's old `ip` is read and counts for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Propagation {
    /// Into HTTP headers.
    pub headers: bool,
    /// Into TCP options.
    pub tcp: bool,
}

impl Propagation {
    /// Whether context is written at all.
    #[must_use]
    pub fn is_disabled(self) -> bool {
        self == Self::default()
    }
}

impl FromStr for Propagation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::default();
        let (mut words, mut disabled) = (0, false);
        for word in text.split(',').map(|word| word.trim().to_ascii_lowercase()) {
            words += 1;
            match word.as_str() {
                "disabled" => disabled = true,
                "headers" => all.headers = true,
                "tcp" => all.tcp = true,
                "all" => all = Self { headers: true, tcp: true },
                "ip" => {}
                _ => return Err(format!("`{word}` is none of disabled, headers, tcp, all")),
            }
        }
        if disabled && words > 1 {
            return Err(format!("`{text}` is both disabled and not"));
        }
        Ok(all)
    }
}

impl fmt::Display for Propagation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.headers, self.tcp) {
            (false, false) => "disabled",
            (true, false) => "headers",
            (false, true) => "tcp",
            (true, true) => "all",
        })
    }
}

impl<'de> Deserialize<'de> for Propagation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Propagation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_nothing_and_other_words_are_named() {
        assert_eq!("WARN".parse(), Ok(Level::Warn));
        assert_eq!("JSON_Indent".parse(), Ok(Printer::JsonIndent));
        assert_eq!("pretty".parse::<LogFormat>(), Err("`pretty` is none of text, json".to_owned()));
    }

    #[test]
    fn propagation_in_all_spellings() {
        let table = [
            ("disabled", "disabled"),
            ("headers", "headers"),
            ("TCP", "tcp"),
            ("headers, tcp", "all"),
            ("tcp,headers", "all"),
            ("all", "all"),
            ("ip", "disabled"),
            ("headers,ip", "headers"),
        ];
        for (text, wanted) in table {
            assert_eq!(text.parse::<Propagation>().map(|p| p.to_string()).as_deref(), Ok(wanted), "{text}");
        }
        for bad in ["", "on", "headers,disabled", "headers,,tcp"] {
            assert!(bad.parse::<Propagation>().is_err(), "{bad}");
        }
    }
}
