//! C types of the ring records, as the skeleton has them, checked against `bpf/include/abi.h`.
#![allow(unsafe_code)]

use std::mem::{offset_of, size_of};

use plain::Plain;

pub use super::skel::types;
pub use types::{ev_connect, ev_end, ev_hdr, ev_proc, ev_request};

// SAFETY: repr(C), integers and arrays of integers only, no padding: -Wpadded in C, and the
// assertions below.
unsafe impl Plain for ev_hdr {}
// SAFETY: as above.
unsafe impl Plain for ev_request {}
// SAFETY: as above.
unsafe impl Plain for ev_end {}
// SAFETY: as above.
unsafe impl Plain for ev_connect {}
// SAFETY: as above.
unsafe impl Plain for ev_proc {}

const _: () = {
    assert!(size_of::<ev_hdr>() == 16);
    assert!(size_of::<ev_request>() == 120);
    assert!(offset_of!(ev_request, laddr) == 64);
    assert!(offset_of!(ev_request, head_len) == 104);
    assert!(size_of::<ev_end>() == 56);
    assert!(offset_of!(ev_end, request_body) == 32);
    assert!(size_of::<ev_connect>() == 96);
    assert!(offset_of!(ev_connect, error) == 92);
    assert!(size_of::<ev_proc>() == 24);
};
