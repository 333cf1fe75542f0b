//! Giving memory back to the kernel.
#![allow(unsafe_code)]

use procfs::process::{MMPermissions, MMapPath, Process};

/// Returns what the load of the BPF objects left in the allocator: type information of the whole
/// kernel was parsed, and none of it is needed any more.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim() has no preconditions.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

/// The start is over: what of our own file is needed from here on is a part of it, without the objects of BPF, and comes back
/// when it is touched.
pub fn started() {
    trim();
    let Ok(maps) = Process::myself().and_then(|own| own.smaps()) else { return };
    for map in maps {
        let as_in_the_file = matches!(map.pathname, MMapPath::Path(_))
            && map.perms.contains(MMPermissions::PRIVATE)
            && !map.perms.contains(MMPermissions::WRITE)
            && map.extension.map.get("Anonymous") == Some(&0);
        let Ok(from) = usize::try_from(map.address.0) else { continue };
        let Ok(length) = usize::try_from(map.address.1 - map.address.0) else { continue };
        if as_in_the_file {
            // SAFETY: nobody may write to these pages and nobody has, so that each is as it is in the file, from which the
            // kernel takes it again.
            unsafe {
                nix::libc::madvise(
                    std::ptr::with_exposed_provenance_mut(from),
                    length,
                    nix::libc::MADV_DONTNEED,
                );
            }
        }
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
