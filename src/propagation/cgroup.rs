//! The root of the cgroup v2 hierarchy, wherever it is mounted: hybrid hosts have it in a subdirectory.

use std::fs::File;

use procfs::process::Process;

/// Opens it.
pub(super) fn root() -> Result<File, String> {
    let mounts = Process::myself().and_then(|me| me.mountinfo()).map_err(|e| format!("mountinfo: {e}"))?;
    let mount = mounts
        .into_iter()
        .filter(|mount| mount.fs_type == "cgroup2")
        .min_by_key(|mount| mount.root.len())
        .ok_or("no cgroup v2 hierarchy is mounted, which BPF programs on sockets are attached to")?;
    File::open(&mount.mount_point).map_err(|e| format!("{}: {e}", mount.mount_point.display()))
}
