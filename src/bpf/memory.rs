//! Giving memory back to the kernel.
#![allow(unsafe_code)]

/// Returns what the load of the BPF objects left in the allocator: type information of the whole
/// kernel was parsed, and none of it is needed any more.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim() has no preconditions.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

/// Few arenas: every thread that allocates would otherwise keep megabytes of its own.
pub fn few_arenas() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt() has no preconditions; no other thread runs yet.
    unsafe {
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, 2);
    }
}
