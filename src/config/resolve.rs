//! What the values mean together: the exporter's settings, the sampler, the printer.

use std::time::Duration;

use super::error::ConfigError;
use super::load::without_password;
use super::model::{Config, SamplerName, Selector};
use super::report::Warning;
use super::words::{Compression, Printer, ProtocolName};
use crate::bpf::Sampling;
use crate::export::{ExportSettings, Format, Protocol, Retry};

/// A head sampler of OpenTelemetry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampler {
    /// Every trace, whatever the parent says.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// A fraction of the traces, by their ids.
    Ratio(f64),
    /// The parent's flag; the root's own decision where there is no parent.
    ParentBased(RootSampler),
}

/// What decides where there is no parent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RootSampler {
    /// Every trace.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// A fraction.
    Ratio(f64),
}

impl Default for Sampler {
    fn default() -> Self {
        Self::ParentBased(RootSampler::AlwaysOn)
    }
}

impl From<Sampler> for Sampling {
    fn from(sampler: Sampler) -> Self {
        let ratio = |root| match root {
            RootSampler::AlwaysOn => 1.0,
            RootSampler::AlwaysOff => 0.0,
            RootSampler::Ratio(ratio) => ratio,
        };
        match sampler {
            Sampler::AlwaysOn => Self { ratio: 1.0, parent_based: false },
            Sampler::AlwaysOff => Self { ratio: 0.0, parent_based: false },
            Sampler::Ratio(ratio) => Self { ratio, parent_based: false },
            Sampler::ParentBased(root) => Self { ratio: ratio(root), parent_based: true },
        }
    }
}

impl SamplerName {
    /// The sampler of that name. OpenTelemetry wants a warning and the default where the name or the
    /// argument is wrong.
    #[must_use]
    pub fn resolved(&self) -> (Sampler, Option<Warning>) {
        let arg = self.arg.trim();
        let (ratio, bad_arg) = match arg.parse::<f64>() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => (ratio, None),
            _ if arg.is_empty() => (1.0, None),
            _ => (1.0, Some(Warning::new(format!("`{arg}` is no sampling ratio from 0 to 1; using 1")))),
        };
        match self.name.trim() {
            "" | "parentbased_always_on" => (Sampler::default(), None),
            "always_on" => (Sampler::AlwaysOn, None),
            "always_off" => (Sampler::AlwaysOff, None),
            "parentbased_always_off" => (Sampler::ParentBased(RootSampler::AlwaysOff), None),
            "traceidratio" => (Sampler::Ratio(ratio), bad_arg),
            "parentbased_traceidratio" => (Sampler::ParentBased(RootSampler::Ratio(ratio)), bad_arg),
            other => {
                let text = format!("unknown sampler `{other}`; using parentbased_always_on");
                (Sampler::default(), Some(Warning::new(text)))
            }
        }
    }
}

impl Config {
    /// Settings of the exporter, when there is an endpoint.
    ///
    /// # Errors
    ///
    /// When the endpoint is no URL to export to, or a header is none.
    pub fn export(&self) -> Result<Option<ExportSettings>, ConfigError> {
        let traces = &self.otel_traces_export;
        let endpoint = traces.endpoint.as_deref().or(traces.common_endpoint.as_deref());
        let Some(endpoint) = endpoint.filter(|endpoint| !endpoint.is_empty()) else { return Ok(None) };
        let bad = |problem: &str| {
            ConfigError::Invalid(format!("the OTLP endpoint `{}` {problem}", without_password(endpoint)))
        };
        let hosts = |uri: &http::Uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
        };
        let uri: http::Uri = endpoint
            .parse()
            .ok()
            .filter(hosts)
            .ok_or_else(|| bad("needs http:// or https:// and a host, as in http://localhost:4317"))?;
        let protocol = match traces.traces_protocol.or(traces.protocol) {
            Some(ProtocolName::Grpc) => Protocol::Grpc,
            Some(ProtocolName::HttpProtobuf) => Protocol::HttpProtobuf,
            // OBI looks at the last digits, so that 14317 or 24317 are gRPC, too.
            None if uri.port_u16().is_some_and(|port| port.to_string().ends_with("4317")) => Protocol::Grpc,
            None => Protocol::HttpProtobuf,
        };
        let mut url = endpoint.to_owned();
        if protocol == Protocol::HttpProtobuf && traces.endpoint.is_none() {
            url = format!("{}/v1/traces", url.trim_end_matches('/'));
        }
        let mut headers: Vec<(String, String)> = Vec::new();
        for (name, value) in
            [&traces.headers, &traces.traces_headers].into_iter().flatten().flat_map(|t| pairs(t))
        {
            let name_is_one = http::HeaderName::from_bytes(name.as_bytes()).is_ok();
            if !name_is_one || http::HeaderValue::from_str(&value).is_err() {
                // Not the value: it may be a secret.
                return Err(ConfigError::Invalid(format!("the OTLP header `{name}` cannot be sent")));
            }
            headers.retain(|(known, _)| !known.eq_ignore_ascii_case(&name));
            headers.push((name, value));
        }
        Ok(Some(ExportSettings {
            endpoint: url,
            protocol,
            headers,
            timeout: Duration::from_millis(traces.timeout.max(1)),
            gzip: traces.compression == Compression::Gzip,
            ca_file: traces.certificate.clone().map(Into::into),
            insecure_skip_verify: traces.insecure_skip_verify,
            client_certificate: traces.client_certificate.clone().map(Into::into),
            client_key: traces.client_key.clone().map(Into::into),
            batch_max_size: traces.batch_max_size,
            batch_timeout: traces.batch_timeout.0,
            queue_size: self.queue_size(),
            retry: Retry {
                initial: traces.backoff_initial_interval.0,
                max: traces.backoff_max_interval.0,
                max_elapsed: traces.backoff_max_elapsed_time.0,
            },
            link_attribute: self.spanwire.link_attribute,
        }))
    }

    /// `queue_size`, where 0 is four batches.
    pub(super) fn queue_size(&self) -> usize {
        let traces = &self.otel_traces_export;
        match traces.queue_size {
            0 => traces.batch_max_size.saturating_mul(4),
            size => size,
        }
    }

    /// The sampler; a warning where its name or argument is wrong.
    #[must_use]
    pub fn sampler(&self) -> (Sampler, Option<Warning>) {
        self.otel_traces_export.sampler.resolved()
    }

    /// The sampler as the kernel side has it.
    #[must_use]
    pub fn sampling(&self) -> (Sampling, Option<Warning>) {
        let (sampler, warning) = self.sampler();
        (sampler.into(), warning)
    }

    /// How spans are printed, if they are.
    #[must_use]
    pub fn printer(&self) -> Option<Format> {
        match self.trace_printer {
            Printer::Disabled => None,
            Printer::Text => Some(Format::Text),
            Printer::Json => Some(Format::Json),
            Printer::JsonIndent => Some(Format::JsonIndent),
            Printer::Counter => Some(Format::Counter),
            Printer::Tree => Some(Format::Tree),
        }
    }

    /// Whether writing headers was asked for, in any spelling.
    #[must_use]
    pub fn wants_headers(&self) -> bool {
        self.ebpf.enable_context_propagation || self.ebpf.context_propagation.headers
    }

    /// Whether any process is to be given headers.
    #[must_use]
    pub fn wants_headers_somewhere(&self) -> bool {
        let asks = |entry: &Selector| entry.context_propagation.is_some_and(|own| own.headers);
        self.wants_headers() || self.discovery.instrument.iter().any(asks)
    }

    /// All selectors: the global ones make one entry, as in OBI.
    #[must_use]
    pub fn selectors(&self) -> Vec<Selector> {
        let global = Selector {
            open_ports: self.open_port.clone(),
            target_pids: self.target_pids.clone(),
            exe_path: self.auto_target_exe.clone(),
            languages: self.auto_target_language.clone(),
            ..Selector::default()
        };
        let mut all = self.discovery.instrument.clone();
        if !global.is_empty() {
            all.push(global);
        }
        all
    }
}

/// `key=value,…`, percent-encoded.
fn pairs(text: &str) -> Vec<(String, String)> {
    let each = text.split(',').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        Some((name.trim().to_owned(), percent_decoded(value.trim()))).filter(|(name, _)| !name.is_empty())
    });
    each.collect()
}

pub(crate) fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes().iter().copied();
    while let Some(byte) = bytes.next() {
        let rest = bytes.clone().take(2).collect::<Vec<u8>>();
        let code = rest.get(..2).filter(|_| byte == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                bytes.nth(1);
            }
            None => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_signs_that_encode_nothing_stay() {
        let table = [
            ("a%20b", "a b"),
            ("100%", "100%"),
            ("%zz%41", "%zzA"),
            ("%E2%82%AC", "€"),
            ("%", "%"),
            ("%4", "%4"),
        ];
        for (text, wanted) in table {
            assert_eq!(percent_decoded(text), wanted, "{text}");
        }
    }

    #[test]
    fn samplers_by_name() {
        let table = [
            ("", "", Sampler::default(), false),
            ("always_on", "0.5", Sampler::AlwaysOn, false),
            ("always_off", "", Sampler::AlwaysOff, false),
            ("traceidratio", "0.5", Sampler::Ratio(0.5), false),
            ("traceidratio", "", Sampler::Ratio(1.0), false),
            ("traceidratio", "NaN", Sampler::Ratio(1.0), true),
            ("traceidratio", "-0.1", Sampler::Ratio(1.0), true),
            ("parentbased_always_on", "", Sampler::default(), false),
            ("parentbased_always_off", "", Sampler::ParentBased(RootSampler::AlwaysOff), false),
            ("parentbased_traceidratio", "1e-3", Sampler::ParentBased(RootSampler::Ratio(0.001)), false),
            ("parentbased_traceidratio", "2", Sampler::ParentBased(RootSampler::Ratio(1.0)), true),
            ("jaeger_remote", "", Sampler::default(), true),
        ];
        for (name, arg, wanted, warns) in table {
            let (sampler, warning) = SamplerName { name: name.to_owned(), arg: arg.to_owned() }.resolved();
            assert_eq!((sampler, warning.is_some()), (wanted, warns), "{name} {arg}");
        }
    }
}
