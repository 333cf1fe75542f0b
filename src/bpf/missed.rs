//! How often the kernel left a program of ours out, as a task that it preempted, or an interrupt, was in it.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use libbpf_rs::libbpf_sys::{bpf_obj_get_info_by_fd, bpf_prog_info};

/// The loaded programs.
#[derive(Debug, Default)]
pub(super) struct Programs(Vec<OwnedFd>);

impl Programs {
    /// A program that counts; one whose descriptor cannot be copied does not.
    pub(super) fn add(&mut self, program: &impl AsFd) {
        self.0.extend(program.as_fd().try_clone_to_owned());
    }

    /// Over all programs since the load. Tasks that are not traced count too: the kernel asks us for none.
    pub(super) fn missed(&self) -> u64 {
        self.0.iter().map(missed).sum()
    }
}

fn missed(program: &OwnedFd) -> u64 {
    let mut info = bpf_prog_info::default();
    let Ok(mut size) = u32::try_from(size_of_val(&info)) else { return 0 };
    // SAFETY: the kernel writes at most `size` bytes of plain numbers to `info`, which has as many.
    let result =
        unsafe { bpf_obj_get_info_by_fd(program.as_raw_fd(), (&raw mut info).cast(), &raw mut size) };
    if result == 0 { info.recursion_misses } else { 0 }
}
