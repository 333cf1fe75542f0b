//! What a configuration says that is not wrong and probably not meant.

use figment::Figment;

use super::keys;
use super::load::{origin_of, without_password};
use super::model::Config;
use super::report::{Effective, Origin, Warning};
use super::words::{MetricsExporter, ProtocolName};

pub(super) fn advise(config: &Config, figment: &Figment, values: &[Effective], warnings: &mut Vec<Warning>) {
    let default = serde_json::to_value(Config::default()).unwrap_or_default();
    for value in values.iter().filter(|value| value.origin != Origin::Default) {
        let (path, origin) = (value.key, &value.origin);
        let built_in = default.pointer(&format!("/{}", path.replace('.', "/")));
        if keys::find(path).is_some_and(|key| !key.works) && built_in != Some(&value.value) {
            warnings.push(super::yaml::not_built(path, origin));
        }
    }
    let path = "ebpf.context_propagation";
    let words = figment.find_value(path).ok().and_then(|value| value.into_string()).unwrap_or_default();
    if words.split(',').any(|word| word.trim().eq_ignore_ascii_case("ip")) {
        let origin = origin_of(figment, path);
        warnings
            .push(Warning::new(format!("`{path}` ({origin}): `ip` is gone, as in OBI, and does nothing")));
    }
    if config.internal_metrics.exporter == MetricsExporter::Otel {
        let origin = origin_of(figment, "internal_metrics.exporter");
        warnings.push(super::yaml::not_built("internal_metrics.exporter: otel", &origin));
    }
    for path in ["otel_traces_export.headers", "otel_traces_export.traces_headers"] {
        let traces = &config.otel_traces_export;
        let text = if path.ends_with("traces_headers") { &traces.traces_headers } else { &traces.headers };
        let parts = text.iter().flat_map(|text| text.split(',')).filter(|part| !part.trim().is_empty());
        // Which part is no header is not said: it may be a secret that lost its name.
        let lost = parts.filter(|part| !part.contains('=')).count();
        if lost > 0 {
            let origin = origin_of(figment, path);
            warnings
                .push(Warning::new(format!("`{path}` ({origin}): {lost} part(s) without `=` are left out")));
        }
    }
    endpoint(config, figment, warnings);
}

/// The path of a traces endpoint is used as it is, which surprises where there is none.
fn endpoint(config: &Config, figment: &Figment, warnings: &mut Vec<Warning>) {
    let traces = &config.otel_traces_export;
    let Some(endpoint) = &traces.endpoint else { return };
    let Ok(uri) = endpoint.parse::<http::Uri>() else { return };
    let grpc = traces.traces_protocol.or(traces.protocol).map_or_else(
        || uri.port_u16().is_some_and(|port| port.to_string().ends_with("4317")),
        |protocol| protocol == ProtocolName::Grpc,
    );
    if !grpc && uri.path() == "/" {
        let (path, shown) = ("otel_traces_export.endpoint", without_password(endpoint));
        let origin = origin_of(figment, path);
        warnings.push(Warning::new(format!(
            "`{path}` ({origin}): `{shown}` is used as it is, and collectors listen on /v1/traces"
        )));
    }
}
