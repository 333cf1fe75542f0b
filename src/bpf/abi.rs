//! C types of the ring records, as the skeleton has them, checked against `bpf/include/abi.h`.
#![allow(unsafe_code)]

use std::mem::{offset_of, size_of};

use plain::Plain;

pub use super::skel::inject::types::ev_claim;
pub use super::skel::types;
pub use types::{ev_conn_end, ev_connect, ev_hdr, ev_head, ev_proc, ev_span, open_req};

// SAFETY: repr(C), integers and arrays of integers only, no padding: -Wpadded in C, and the
// assertions below.
unsafe impl Plain for ev_hdr {}
// SAFETY: as above.
unsafe impl Plain for ev_head {}
// SAFETY: as above.
unsafe impl Plain for ev_span {}
// SAFETY: as above.
unsafe impl Plain for ev_connect {}
// SAFETY: as above.
unsafe impl Plain for ev_conn_end {}
// SAFETY: as above.
unsafe impl Plain for ev_proc {}
// SAFETY: as above.
unsafe impl Plain for open_req {}
// SAFETY: as above.
unsafe impl Plain for ev_claim {}

const _: () = {
    assert!(size_of::<ev_hdr>() == 16);
    assert!(size_of::<ev_head>() == 40);
    assert!(size_of::<ev_span>() == 136);
    assert!(offset_of!(ev_span, trace_id) == 56);
    assert!(offset_of!(ev_span, status) == 128);
    assert!(size_of::<ev_conn_end>() == 24);
    assert!(size_of::<ev_connect>() == 96);
    assert!(offset_of!(ev_connect, error) == 92);
    assert!(size_of::<ev_proc>() == 24);
    assert!(size_of::<ev_claim>() == 16);
    assert!(size_of::<open_req>() == 512);
    assert!(offset_of!(open_req, ev) == 40);
};
