//! Spans → OTLP messages. One `ResourceSpans` a process, one scope.

use std::collections::HashMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value,
};
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as ProtoSpan, Status};

use crate::span::{Resource, Span, SpanKind, Value, attributes, is_error, name};

const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.41.0";
/// OTLP's `SpanFlags`: whether the parent is remote is known, and it is.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

fn key_value(key: &str, value: Value) -> KeyValue {
    let value = match value {
        Value::Str(text) => any_value::Value::StringValue(text.into_owned()),
        Value::Int(number) => any_value::Value::IntValue(number),
        Value::List(texts) => {
            let text = |text| AnyValue { value: Some(any_value::Value::StringValue(text)) };
            any_value::Value::ArrayValue(ArrayValue { values: texts.into_iter().map(text).collect() })
        }
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

fn resource(resource: &Resource) -> ProtoResource {
    let mut attributes = vec![key_value("service.name", Value::from(&*resource.service_name))];
    if let Some(namespace) = &resource.service_namespace {
        attributes.push(key_value("service.namespace", Value::from(&**namespace)));
    }
    attributes.push(key_value("service.instance.id", Value::from(&*resource.instance_id)));
    attributes.extend(resource.attributes.iter().map(|(key, value)| key_value(key, value.clone())));
    ProtoResource { attributes, ..Default::default() }
}

fn span(span: &Span, with_link: bool) -> ProtoSpan {
    let remote = if span.parent_is_remote { IS_REMOTE } else { 0 };
    ProtoSpan {
        trace_id: span.trace_id.0.to_vec(),
        span_id: span.span_id.0.to_vec(),
        parent_span_id: span.parent.map(|id| id.0.to_vec()).unwrap_or_default(),
        flags: u32::from(span.trace_flags) | HAS_IS_REMOTE | remote,
        name: name(span).to_owned(),
        kind: match span.kind {
            SpanKind::Server => 2,
            SpanKind::Client => 3,
        },
        start_time_unix_nano: span.start_ns,
        end_time_unix_nano: span.end_ns,
        attributes: attributes(span, with_link)
            .into_iter()
            .map(|(key, value)| key_value(key, value))
            .collect(),
        status: is_error(span).then(|| Status { code: 2, message: String::new() }),
        ..Default::default()
    }
}

/// The request that carries `spans`.
#[must_use]
pub fn encode(spans: &[Span], with_link: bool) -> ExportTraceServiceRequest {
    let mut places: HashMap<*const Resource, usize> = HashMap::new();
    let mut resource_spans: Vec<ResourceSpans> = Vec::new();
    for item in spans {
        let place = *places.entry(Arc::as_ptr(&item.resource)).or_insert_with(|| {
            resource_spans.push(ResourceSpans {
                resource: Some(resource(&item.resource)),
                scope_spans: vec![ScopeSpans {
                    scope: Some(InstrumentationScope {
                        name: "spanwire".to_owned(),
                        version: env!("CARGO_PKG_VERSION").to_owned(),
                        ..Default::default()
                    }),
                    schema_url: SCHEMA_URL.to_owned(),
                    ..Default::default()
                }],
                schema_url: SCHEMA_URL.to_owned(),
            });
            resource_spans.len() - 1
        });
        if let Some(scope) = resource_spans.get_mut(place).and_then(|rs| rs.scope_spans.first_mut()) {
            scope.spans.push(span(item, with_link));
        }
    }
    ExportTraceServiceRequest { resource_spans }
}
