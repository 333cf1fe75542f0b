//! The skeletons that libbpf-cargo generates from `bpf/tracer`, `bpf/inject`, `bpf/runtime` and `bpf/probe`.
#![allow(
    clippy::all,
    clippy::pedantic,
    dead_code,
    missing_docs,
    missing_debug_implementations,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unsafe_op_in_unsafe_fn,
    unsafe_code,
    unused
)]

include!(concat!(env!("OUT_DIR"), "/tracer.skel.rs"));

pub(super) mod probe {
    include!(concat!(env!("OUT_DIR"), "/probe.skel.rs"));
}

pub(super) mod inject {
    include!(concat!(env!("OUT_DIR"), "/inject.skel.rs"));
}

pub(super) mod runtime {
    include!(concat!(env!("OUT_DIR"), "/runtime.skel.rs"));
}
