//! What `/proc` says of one process. Any of it may be gone by the time we look.

use std::fs;
use std::io::Read;
use std::path::PathBuf;

use super::container::ContainerRef;

/// Bytes of `environ` and `cmdline` that are looked at.
const READ_MAX: u64 = 256 << 10;

/// A process as it is now.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Host pid.
    pub pid: u32,
    /// Path of the executable, as the process sees it.
    pub exe: String,
    /// Arguments.
    pub args: Vec<String>,
    /// Inode of the network namespace.
    pub netns: u32,
}

/// A bounded read; empty if the process is gone or not ours to read.
fn read(pid: u32, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = fs::File::open(format!("/proc/{pid}/{name}")) {
        let _partial_is_fine = file.take(READ_MAX).read_to_end(&mut bytes);
    }
    bytes
}

fn link(pid: u32, name: &str) -> Option<String> {
    let target = fs::read_link(format!("/proc/{pid}/{name}")).ok()?;
    Some(target.to_string_lossy().into_owned())
}

/// Its child processes, of all its threads; none where the kernel does not list them.
pub(super) fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    let lists = threads
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|one| one.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// Inode in a namespace link, `net:[4026531840]`.
fn inode(link: &str) -> Option<u32> {
    link.split_once('[')?.1.strip_suffix(']')?.parse().ok()
}

/// Inode of the network namespace of a process.
#[must_use]
pub fn netns(pid: u32) -> Option<u32> {
    link(pid, "ns/net").as_deref().and_then(inode)
}

impl Facts {
    /// Reads `/proc/PID`; `None` for kernel threads and processes that are gone.
    #[must_use]
    pub fn read(pid: u32) -> Option<Self> {
        let exe = link(pid, "exe")?;
        let exe = exe.strip_suffix(" (deleted)").unwrap_or(&exe).to_owned();
        let args = read(pid, "cmdline")
            .split(|b| *b == 0)
            .map(|arg| String::from_utf8_lossy(arg).into_owned())
            .collect();
        let netns = netns(pid).unwrap_or(0);
        Some(Self { pid, exe, args, netns })
    }

    /// The executable, reachable from here also when the process is in a container.
    #[must_use]
    pub fn exe_file(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/exe", self.pid))
    }

    /// File name of the executable.
    #[must_use]
    pub fn exe_name(&self) -> &str {
        self.exe.rsplit('/').next().unwrap_or_default()
    }

    /// One variable of the environment that the process was started with. The rest of it is
    /// none of our business and is not kept.
    #[must_use]
    pub fn env(&self, name: &str) -> Option<String> {
        env_value(&read(self.pid, "environ"), name)
    }

    /// Libraries in the memory map, for telling runtimes apart.
    #[must_use]
    pub fn maps(&self) -> String {
        String::from_utf8_lossy(&read(self.pid, "maps")).into_owned()
    }
}

fn env_value(environ: &[u8], name: &str) -> Option<String> {
    environ.split(|b| *b == 0).find_map(|pair| {
        let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(String::from_utf8_lossy(value).into_owned()).filter(|value| !value.is_empty())
    })
}

/// The container that a process is in, by its cgroup.
pub(super) fn container(pid: u32) -> Option<ContainerRef> {
    ContainerRef::parse(&String::from_utf8_lossy(&read(pid, "cgroup")))
}

/// Pids of all processes.
pub(super) fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_environ(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _any = env_value(&bytes, "A");
        }
    }

    #[test]
    fn one_variable() {
        assert_eq!(env_value(b"AB=1\0A=2\0", "A").as_deref(), Some("2"));
        assert_eq!(env_value(b"A=\0", "A"), None);
    }
}
