//! Values that are right one by one may still make no sense together, or at all.

use std::net::IpAddr;

use super::error::ConfigError;
use super::model::Config;
use super::types::{IntSet, Span};
use super::words::MetricsExporter;

fn ensure(good: bool, problem: impl Into<String>) -> Result<(), ConfigError> {
    if good { Ok(()) } else { Err(ConfigError::Invalid(problem.into())) }
}

impl Config {
    /// Whether there is something to trace and a place for it, and all values can be used.
    /// `runs_command`: a command on the command line is something to trace.
    ///
    /// # Errors
    ///
    /// Says what is wrong and what to do.
    pub fn validate(&self, runs_command: bool) -> Result<(), ConfigError> {
        self.check_selection(runs_command)?;
        self.check_export()?;
        let ports = &self.internal_metrics;
        let listens = ports.exporter != MetricsExporter::Prometheus || ports.prometheus.port != 0;
        ensure(
            listens,
            "internal_metrics.exporter is prometheus and internal_metrics.prometheus.port is not set",
        )?;
        let path = &ports.prometheus.path;
        ensure(
            path.starts_with('/'),
            format!("internal_metrics.prometheus.path: `{path}` does not start with /"),
        )?;
        let address = &self.health_check.listen_address;
        ensure(
            address.parse::<IpAddr>().is_ok(),
            format!("health_check.listen_address: `{address}` is no IP address"),
        )?;
        let ring = self.spanwire.ring_size;
        ensure(
            ring.is_power_of_two() && ring >= 1 << 16,
            format!("spanwire.ring_size: `{ring}` is no power of two from 65536 on"),
        )?;
        let names = &self.spanwire.jvm_worker_threads;
        let most = crate::bpf::WORKER_NAMES;
        ensure(
            names.len() <= most,
            format!("spanwire.jvm_worker_threads: {} names, of {most} at most", names.len()),
        )?;
        for name in names {
            ensure(
                (1..=15).contains(&name.len()),
                format!(
                    "spanwire.jvm_worker_threads: `{name}` has not 1 to 15 bytes, as names of threads have"
                ),
            )?;
        }
        more_than_zero("ebpf.max_transaction_time", self.ebpf.max_transaction_time)
    }

    /// Whether the files that it names can be read.
    ///
    /// # Errors
    ///
    /// Names the key and the file.
    pub fn check_files(&self) -> Result<(), ConfigError> {
        let traces = &self.otel_traces_export;
        let named = [
            ("otel_traces_export.certificate", &traces.certificate),
            ("otel_traces_export.client_certificate", &traces.client_certificate),
            ("otel_traces_export.client_key", &traces.client_key),
        ];
        for (key, path) in named {
            if let Some(path) = path.as_ref().filter(|path| !path.is_empty())
                && let Err(error) = std::fs::File::open(path)
            {
                return Err(ConfigError::Invalid(format!("{key}: `{path}` cannot be read: {error}")));
            }
        }
        Ok(())
    }

    fn check_selection(&self, runs_command: bool) -> Result<(), ConfigError> {
        let discovery = &self.discovery;
        let lists = [
            ("instrument", &discovery.instrument),
            ("exclude_instrument", &discovery.exclude_instrument),
            ("default_exclude_instrument", &discovery.default_exclude_instrument.0),
        ];
        for (name, list) in lists {
            for (index, entry) in list.iter().enumerate() {
                let path = format!("discovery.{name}.{index}");
                ensure(
                    !entry.is_empty(),
                    format!("{path} has no condition, so it would hold for everything"),
                )?;
                check_ports(&format!("{path}.open_ports"), &entry.open_ports)?;
            }
        }
        check_ports("open_port", &self.open_port)?;
        ensure(
            runs_command || !self.selectors().is_empty(),
            "nothing to trace: give a port (--port 8080), an executable (--exe '*/nginx'), a pid (--pid 1234), \
             discovery.instrument in the configuration, or a command (spanwire run -- CMD)",
        )
    }

    fn check_export(&self) -> Result<(), ConfigError> {
        let traces = &self.otel_traces_export;
        ensure(traces.batch_max_size > 0, "otel_traces_export.batch_max_size must be at least 1")?;
        ensure(
            self.queue_size() / 2 >= traces.batch_max_size,
            format!(
                "otel_traces_export.queue_size: `{}` is less than twice batch_max_size, which is {}",
                traces.queue_size, traces.batch_max_size
            ),
        )?;
        more_than_zero("otel_traces_export.backoff_initial_interval", traces.backoff_initial_interval)?;
        more_than_zero("otel_traces_export.backoff_max_interval", traces.backoff_max_interval)?;
        more_than_zero("otel_traces_export.backoff_max_elapsed_time", traces.backoff_max_elapsed_time)?;
        ensure(
            traces.client_certificate.is_some() == traces.client_key.is_some(),
            "otel_traces_export.client_certificate and client_key need each other",
        )?;
        ensure(
            self.export()?.is_some() || self.printer().is_some(),
            "no place for traces: give an OTLP endpoint (--endpoint http://localhost:4317) or a printer \
             (--print tree)",
        )
    }
}

fn check_ports(path: &str, ports: &IntSet) -> Result<(), ConfigError> {
    let beyond = ports.ranges().find(|range| *range.end() > u32::from(u16::MAX));
    let problem = beyond.map(|range| format!("{path}: `{}` is no port; the last is 65535", range.end()));
    problem.map_or(Ok(()), |problem| Err(ConfigError::Invalid(problem)))
}

fn more_than_zero(path: &str, span: Span) -> Result<(), ConfigError> {
    ensure(!span.0.is_zero(), format!("{path} must be more than 0"))
}
