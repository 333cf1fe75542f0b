//! What language runtimes do with a request in their own memory, seen by probes in their libraries.
//!
//! | runtime | what | probe | what it tells |
//! |---|---|---|---|
//! | Ruby | puma hands requests from its reactor to its workers | `getsockopt()` | who asks for the `TCP_INFO` of a connection serves what is open on it |
//! | Ruby | gRPC's core reads and writes streams on any thread | calls and streams of the core | who takes a call's message serves it, who begins a call makes it |
//!
//! Only processes that serve requests have probes: one costs its process a trap whenever it is passed.

mod symbol;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use crate::bpf::{Attached, RuntimeProbe, RuntimeProbes};
use crate::proc::{Facts, Language, mappings};

/// What a process starts that goes on to run another program does so at once; a worker stays.
const BIRTH: Duration = Duration::from_millis(100);

/// The probes of all processes.
#[derive(Debug)]
pub struct Runtimes {
    probes: RuntimeProbes,
    enabled: bool,
    processes: HashMap<u32, Process>,
    /// Children of those, and when they were started.
    born: HashMap<u32, (Instant, Language)>,
    /// What was warned of.
    told: HashSet<String>,
}

/// A process that probes are of use for.
#[derive(Debug)]
struct Process {
    language: Language,
    selected: bool,
    attached: HashMap<RuntimeProbe, Attached>,
}

/// What helps in a process of which one thread reads requests for others.
fn probes_of(language: Language) -> &'static [RuntimeProbe] {
    match language {
        Language::Ruby => &[RuntimeProbe::Getsockopt, RuntimeProbe::GrpcCore],
        _ => &[],
    }
}

impl Runtimes {
    /// No process has any yet.
    #[must_use]
    pub fn new(probes: RuntimeProbes) -> Self {
        Self { probes, enabled: false, processes: HashMap::new(), born: HashMap::new(), told: HashSet::new() }
    }

    /// Whether there is a probe for the language at all.
    #[must_use]
    pub fn can_probe(language: Language) -> bool {
        !probes_of(language).is_empty()
    }

    /// Whether there are to be any.
    pub fn enable(&mut self, enabled: bool) {
        self.enabled = enabled;
        let known: Vec<u32> = self.processes.keys().copied().collect();
        for pid in known {
            self.settle(pid);
        }
    }

    /// A selected process serves requests: it listens, or has read one from a socket that it waits for together with
    /// others.
    pub fn serves(&mut self, pid: u32, language: Language) {
        if Self::can_probe(language) {
            self.add(pid, language);
        }
    }

    fn add(&mut self, pid: u32, language: Language) {
        self.born.remove(&pid);
        self.processes.entry(pid).or_insert(Process { language, selected: true, attached: HashMap::new() });
        self.settle(pid);
    }

    /// A selected process started another.
    pub fn forked(&mut self, parent: u32, child: u32) {
        if let Some(process) = self.processes.get(&parent).filter(|process| process.selected) {
            self.born.insert(child, (Instant::now(), process.language));
        }
    }

    /// Looks at what was started a while ago. To be called now and then.
    pub fn tick(&mut self) {
        let stays = |(pid, (since, language)): (&u32, &(Instant, Language))| {
            (since.elapsed() >= BIRTH).then_some((*pid, *language))
        };
        let grown: Vec<_> = self.born.iter().filter_map(stays).collect();
        for (pid, language) in grown {
            self.add(pid, language);
        }
    }

    /// A process is selected, for the first time or again.
    pub fn select(&mut self, pid: u32) {
        self.set_selected(pid, true);
    }

    /// A process is not selected any more.
    pub fn deselect(&mut self, pid: u32) {
        self.set_selected(pid, false);
    }

    fn set_selected(&mut self, pid: u32, selected: bool) {
        if !selected {
            self.born.remove(&pid);
        }
        if let Some(process) = self.processes.get_mut(&pid) {
            process.selected = selected;
            self.settle(pid);
        }
    }

    fn settle(&mut self, pid: u32) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        if !(self.enabled && process.selected) {
            process.attached.clear();
            return;
        }
        for probe in probes_of(process.language) {
            if process.attached.contains_key(probe) {
                continue;
            }
            match attach(&mut self.probes, *probe, pid) {
                Ok(Some(attached)) => {
                    debug!(pid, ?probe, "A process has a runtime probe.");
                    process.attached.insert(*probe, attached);
                }
                Ok(None) => {}
                // One that has ended meanwhile is nothing to warn of.
                Err(reason) if Facts::read(pid).is_some() && self.told.insert(reason.clone()) => {
                    warn!(pid, %reason, "No runtime probe: calls of its thread pool may have no parent.");
                }
                Err(_) => {}
            }
        }
    }

    /// A process is gone, or runs another program.
    pub fn forget(&mut self, pid: u32) {
        self.processes.remove(&pid);
        self.born.remove(&pid);
    }
}

/// `None`: the process has nothing of what the probe is for.
fn attach(probes: &mut RuntimeProbes, probe: RuntimeProbe, pid: u32) -> Result<Option<Attached>, String> {
    let maps =
        std::fs::read_to_string(format!("/proc/{pid}/maps")).map_err(|e| format!("its memory map: {e}"))?;
    let library = match probe {
        RuntimeProbe::Getsockopt => mappings(&maps)
            .find(|mapping| mapping.executable && mapping.is_c_library())
            .ok_or("it has no C library of its own")?,
        RuntimeProbe::GrpcCore => {
            match mappings(&maps).find(|mapping| mapping.executable && is_grpc_core(mapping.path)) {
                Some(library) => library,
                None => return Ok(None),
            }
        }
    };
    let file = library.open(pid).map_err(|e| format!("{}: {e}", library.path))?;
    let offset = |function: &&str| {
        symbol::offset_of(&file, function).ok_or_else(|| format!("{}: no function {function}", library.path))
    };
    let offsets = probe.functions().iter().map(offset).collect::<Result<Vec<u64>, _>>()?;
    probes.attach(probe, pid, &file, &offsets).map(Some)
}

/// The core whose layouts the probe knows: 29 is gRPC 1.51, by the name that a loader looks for.
fn is_grpc_core(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    ["libgrpc.so.29", "libgrpc_unsecure.so.29"]
        .iter()
        .any(|core| name.strip_prefix(core).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

#[cfg(test)]
mod tests {
    use super::is_grpc_core;

    #[test]
    fn only_what_is_known() {
        for path in ["/usr/lib/libgrpc.so.29", "/lib/libgrpc.so.29.0.0", "/l/libgrpc_unsecure.so.29.0.0"] {
            assert!(is_grpc_core(path), "{path}");
        }
        for path in
            ["/lib/libgrpc.so.10", "/lib/libgrpc.so.290", "/lib/libgrpc++.so.1.51", "/libgrpc.so.29/x", ""]
        {
            assert!(!is_grpc_core(path), "{path}");
        }
    }
}
