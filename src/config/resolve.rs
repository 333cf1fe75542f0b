//! What the values mean together: the exporter's settings, the sampler, the printer.

use super::ConfigError;
use super::model::{Compression, Config, Printer, Propagation, ProtocolName, Selector};
use crate::bpf::Sampling;
use crate::export::{ExportSettings, Format, Protocol, Retry};

impl Config {
    /// Settings of the exporter, when there is an endpoint.
    pub fn export(&self) -> Result<Option<ExportSettings>, ConfigError> {
        let traces = &self.otel_traces_export;
        let endpoint = traces.endpoint.as_deref().or(traces.common_endpoint.as_deref());
        let Some(endpoint) = endpoint.filter(|endpoint| !endpoint.is_empty()) else { return Ok(None) };
        let bad = |problem: &str| ConfigError::Invalid(format!("the OTLP endpoint `{endpoint}` {problem}"));
        let uri: http::Uri = endpoint.parse().map_err(|_| bad("is no URL"))?;
        if uri.scheme().is_none() || uri.host().is_none() {
            return Err(bad("needs a scheme and a host, as in http://localhost:4317"));
        }
        let protocol = match traces.traces_protocol.or(traces.protocol) {
            Some(ProtocolName::Grpc) => Protocol::Grpc,
            Some(ProtocolName::HttpProtobuf) => Protocol::HttpProtobuf,
            None if uri.port_u16() == Some(4317) => Protocol::Grpc,
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
            headers.retain(|(known, _)| !known.eq_ignore_ascii_case(&name));
            headers.push((name, value));
        }
        Ok(Some(ExportSettings {
            endpoint: url,
            protocol,
            headers,
            timeout: std::time::Duration::from_millis(traces.timeout.max(1)),
            gzip: traces.compression == Compression::Gzip,
            ca_file: traces.certificate.clone().map(Into::into),
            client_certificate: traces.client_certificate.clone().map(Into::into),
            client_key: traces.client_key.clone().map(Into::into),
            batch_max_size: traces.batch_max_size,
            batch_timeout: traces.batch_timeout.0,
            queue_size: traces.queue_size,
            retry: Retry {
                initial: traces.backoff_initial_interval.0,
                max: traces.backoff_max_interval.0,
                max_elapsed: traces.backoff_max_elapsed_time.0,
            },
            link_attribute: self.spanwire.link_attribute,
        }))
    }

    /// The sampler; a warning where its name or argument is wrong, as OpenTelemetry wants it.
    #[must_use]
    pub fn sampling(&self) -> (Sampling, Option<String>) {
        let sampler = &self.otel_traces_export.sampler;
        let always = Sampling { ratio: 1.0, parent_based: true };
        let ratio = || match sampler.arg.parse::<f64>() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => (ratio, None),
            _ if sampler.arg.is_empty() => (1.0, None),
            _ => (1.0, Some(format!("`{}` is no sampling ratio from 0 to 1; using 1", sampler.arg))),
        };
        let of = |ratio, parent_based| (Sampling { ratio, parent_based }, None);
        match sampler.name.as_str() {
            "" | "parentbased_always_on" => (always, None),
            "always_on" => of(1.0, false),
            "always_off" => of(0.0, false),
            "parentbased_always_off" => of(0.0, true),
            "traceidratio" => (Sampling { ratio: ratio().0, parent_based: false }, ratio().1),
            "parentbased_traceidratio" => (Sampling { ratio: ratio().0, parent_based: true }, ratio().1),
            other => (always, Some(format!("unknown sampler `{other}`; using parentbased_always_on"))),
        }
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

    /// Whether writing context was asked for, in any spelling.
    #[must_use]
    pub fn wants_propagation(&self) -> bool {
        self.ebpf.enable_context_propagation || self.ebpf.context_propagation != Propagation::Disabled
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

    /// Values that are right one by one may still make no sense together.
    pub fn validate(&self, runs_command: bool) -> Result<(), ConfigError> {
        let bad = |text: &str| Err(ConfigError::Invalid(text.to_owned()));
        let traces = &self.otel_traces_export;
        if traces.batch_max_size == 0 || traces.queue_size < 2 * traces.batch_max_size {
            return bad(
                "otel_traces_export.queue_size must be at least twice batch_max_size, and that at least 1",
            );
        }
        if !self.spanwire.ring_size.is_power_of_two() || self.spanwire.ring_size < 1 << 16 {
            return bad("spanwire.ring_size must be a power of two and at least 65536");
        }
        let lists = [&self.discovery.instrument, &self.discovery.exclude_instrument];
        if lists.into_iter().flatten().any(Selector::is_empty) {
            return bad("an entry of discovery.instrument or exclude_instrument has no condition");
        }
        if self.selectors().is_empty() && !runs_command {
            return bad(
                "nothing to trace: give a port (--port 8080), an executable (--exe '*/nginx'), a pid (--pid 1234), \
                        discovery.instrument in the configuration, or a command (spanwire run -- CMD)",
            );
        }
        if self.export()?.is_none() && self.printer().is_none() {
            return bad(
                "no place for traces: give an OTLP endpoint (--endpoint http://localhost:4317) or a printer (--print tree)",
            );
        }
        Ok(())
    }
}

/// `key=value,…`, percent-encoded.
fn pairs(text: &str) -> Vec<(String, String)> {
    let each = text.split(',').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        Some((name.trim().to_owned(), percent_decoded(value.trim())))
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
