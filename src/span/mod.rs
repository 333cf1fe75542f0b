//! The span model: what a finished request is, before any exporter looks at it.
//!
//! Plain data. Nothing here reads a clock, a file or a socket.

mod attributes;
mod model;

pub use attributes::{Attribute, Value, attributes, error_type, grpc_code, is_error, name};
pub use model::{
    Endpoint, ErrorType, GrpcCall, HttpExchange, HttpVersion, Link, Operation, Resource, Span, SpanId,
    SpanKind, TraceId,
};
