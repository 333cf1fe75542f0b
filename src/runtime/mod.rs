//! What language runtimes do with a request in their own memory, seen by probes in their libraries.
//!
//! | runtime | what | probe | what it tells |
//! |---|---|---|---|
//! | Ruby | puma hands requests from its reactor to its workers | `getsockopt()` | who asks for the `TCP_INFO` of a connection serves what is open on it |
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
    born: HashMap<u32, (Instant, RuntimeProbe)>,
    /// What was warned of.
    told: HashSet<String>,
}

/// A process that a probe is of use for.
#[derive(Debug)]
struct Process {
    probe: RuntimeProbe,
    selected: bool,
    attached: Option<Attached>,
}

/// What helps in a process whose requests one thread reads for others.
fn probe_of(language: Language) -> Option<RuntimeProbe> {
    match language {
        Language::Ruby => Some(RuntimeProbe::Getsockopt),
        _ => None,
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
        probe_of(language).is_some()
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
        if let Some(probe) = probe_of(language) {
            self.add(pid, probe);
        }
    }

    fn add(&mut self, pid: u32, probe: RuntimeProbe) {
        self.born.remove(&pid);
        self.processes.entry(pid).or_insert(Process { probe, selected: true, attached: None });
        self.settle(pid);
    }

    /// A selected process started another.
    pub fn forked(&mut self, parent: u32, child: u32) {
        if let Some(process) = self.processes.get(&parent).filter(|process| process.selected) {
            self.born.insert(child, (Instant::now(), process.probe));
        }
    }

    /// Looks at what was started a while ago. To be called now and then.
    pub fn tick(&mut self) {
        let stays = |(pid, (since, probe)): (&u32, &(Instant, RuntimeProbe))| {
            (since.elapsed() >= BIRTH).then_some((*pid, *probe))
        };
        let grown: Vec<_> = self.born.iter().filter_map(stays).collect();
        for (pid, probe) in grown {
            self.add(pid, probe);
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
            process.attached = None;
            return;
        }
        if process.attached.is_some() {
            return;
        }
        match attach(&mut self.probes, process.probe, pid) {
            Ok(attached) => {
                debug!(pid, probe = ?process.probe, "A process has a runtime probe.");
                process.attached = Some(attached);
            }
            // One that has ended meanwhile is nothing to warn of.
            Err(reason) if Facts::read(pid).is_some() && self.told.insert(reason.clone()) => {
                warn!(pid, %reason, "No runtime probe: calls of its thread pool may have no parent.");
            }
            Err(_) => {}
        }
    }

    /// A process is gone, or runs another program.
    pub fn forget(&mut self, pid: u32) {
        self.processes.remove(&pid);
        self.born.remove(&pid);
    }
}

fn attach(probes: &mut RuntimeProbes, probe: RuntimeProbe, pid: u32) -> Result<Attached, String> {
    let function = match probe {
        RuntimeProbe::Getsockopt => "getsockopt",
    };
    let maps =
        std::fs::read_to_string(format!("/proc/{pid}/maps")).map_err(|e| format!("its memory map: {e}"))?;
    let library = mappings(&maps)
        .find(|mapping| mapping.executable && mapping.is_c_library())
        .ok_or("it has no C library of its own")?;
    let file = library.open(pid).map_err(|e| format!("{}: {e}", library.path))?;
    let offset = symbol::offset_of(&file, function)
        .ok_or_else(|| format!("{}: no function {function}", library.path))?;
    probes.attach(probe, pid, &file, offset)
}
