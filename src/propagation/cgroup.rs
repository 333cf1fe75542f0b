//! The root of the cgroup v2 hierarchy, wherever it is mounted: hybrid hosts have it in a subdirectory.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};
use procfs::process::Process;

/// Inode of the first directory of the hierarchy.
const ROOT: u64 = 1;

/// Where programs are attached.
pub(super) struct Root {
    pub(super) file: File,
    /// It is the root; else processes outside of it are given no headers.
    pub(super) whole: bool,
}

/// A mount of the hierarchy that `process` sees, with as much of it as any.
fn mounted(process: &Process) -> Result<Option<PathBuf>, String> {
    let mounts = process.mountinfo().map_err(|e| format!("mountinfo: {e}"))?;
    let two = mounts.into_iter().filter(|mount| mount.fs_type == "cgroup2");
    Ok(two.min_by_key(|mount| mount.root.len()).map(|mount| mount.mount_point))
}

fn open(path: &Path) -> Result<Root, String> {
    let name = |e| format!("{}: {e}", path.display());
    let file = File::open(path).map_err(name)?;
    let is_ours = fstatfs(&file).is_ok_and(|about| about.filesystem_type() == CGROUP2_SUPER_MAGIC);
    let whole = is_ours && file.metadata().map_err(name)?.ino() == ROOT;
    Ok(Root { file, whole })
}

/// By the mounts of the first process that sees all of it: a container sees its own cgroup as the root.
fn of_host() -> Option<Root> {
    let of = |process: &Process| {
        let place = mounted(process).ok()??;
        let path = Path::new("/proc").join(process.pid.to_string()).join("root");
        open(&path.join(place.strip_prefix("/").ok()?)).ok().filter(|root| root.whole)
    };
    let all = procfs::process::all_processes().ok()?.flatten();
    all.filter(|process| process.exe().is_ok()).find_map(|process| of(&process))
}

/// Opens it.
pub(super) fn root() -> Result<Root, String> {
    let own = Process::myself().map_err(|e| format!("mountinfo: {e}")).and_then(|me| mounted(&me))?;
    let own = own.ok_or("no cgroup v2 hierarchy is mounted, which BPF programs on sockets are attached to");
    match own.map_err(str::to_owned).and_then(|path| open(&path)) {
        Ok(root) if root.whole => Ok(root),
        // Without a mount of its own it stays off the host's.
        own => own.map(|own| of_host().unwrap_or(own)),
    }
}
