//! Selection: at start from `/proc`, then by the events of the kernel side.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use super::facts::{Facts, children, pids};
use super::language::Language;
use super::listen::Listeners;
use crate::bpf::Control;
use crate::config::Selector;
use crate::enrich::Naming;
use crate::event::ProcEvent;
use crate::propagation::Propagation;
use crate::span::Resource;

/// Resources of processes that are gone, kept for the spans still on their way.
const GONE_KEPT: usize = 4096;

/// Looks at the processes there are, on a host where new ones come all the time.
const MOST_LOOKS: usize = 16;

/// What selects a process.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Any of these.
    pub instrument: Vec<Selector>,
    /// None of these.
    pub exclude: Vec<Selector>,
}

impl Rules {
    fn matches(
        selector: &Selector,
        facts: &Facts,
        ports: &mut impl FnMut() -> Vec<u16>,
        language: &impl Fn() -> Language,
    ) -> bool {
        let ints = |set: &crate::config::IntSet, value: u32| set.is_empty() || set.contains(value);
        let globs = |glob: &Option<crate::config::Glob>, text: &dyn Fn() -> String| {
            glob.as_ref().is_none_or(|glob| glob.matches(&text()))
        };
        ints(&selector.target_pids, facts.pid)
            && globs(&selector.exe_path, &|| facts.exe.clone())
            && globs(&selector.cmd_args, &|| facts.args.join(" "))
            && (selector.open_ports.is_empty()
                || ports().iter().any(|port| selector.open_ports.contains((*port).into())))
            && (selector.languages.is_none()
                || globs(&selector.languages, &|| language().as_str().to_owned()))
    }

    /// The first entry that selects the process, unless one excludes it.
    fn select(&self, facts: &Facts, known_port: Option<u16>, listeners: &mut Listeners) -> Option<&Selector> {
        let mut cached: Option<Vec<u16>> = None;
        let mut ports = || {
            let all = cached.get_or_insert_with(|| listeners.of(facts.pid));
            all.iter().copied().chain(known_port).collect()
        };
        let language = || Language::of(facts);
        let hit = self.instrument.iter().find(|entry| Self::matches(entry, facts, &mut ports, &language))?;
        let excluded = self.exclude.iter().any(|entry| Self::matches(entry, facts, &mut ports, &language));
        (!excluded).then_some(hit)
    }
}

/// Who the selected processes are; shared with the assembler.
#[derive(Debug, Default)]
pub struct Selection {
    live: HashMap<u32, Arc<Resource>>,
    gone: HashMap<u32, Arc<Resource>>,
    gone_order: std::collections::VecDeque<u32>,
}

impl Selection {
    /// The resource of a process that is, or was a moment ago, selected.
    #[must_use]
    pub fn resource(&self, pid: u32) -> Option<Arc<Resource>> {
        self.live.get(&pid).or_else(|| self.gone.get(&pid)).cloned()
    }

    /// How many processes are selected.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    fn leave(&mut self, pid: u32) {
        let Some(resource) = self.live.remove(&pid) else { return };
        self.gone.insert(pid, resource);
        self.gone_order.push_back(pid);
        while self.gone_order.len() > GONE_KEPT {
            if let Some(old) = self.gone_order.pop_front() {
                self.gone.remove(&old);
            }
        }
    }
}

/// Decides which processes are traced.
#[derive(Debug)]
pub struct Discovery {
    rules: Rules,
    naming: Naming,
    control: Control,
    selection: Arc<Mutex<Selection>>,
    /// Started by `spanwire run -- CMD`, with descendants: selected whatever they run.
    command: HashSet<u32>,
    exits: u32,
    propagation: Option<Propagation>,
    /// Where the entry that selects a process does not say.
    propagate: bool,
}

impl Discovery {
    /// Nothing is selected yet.
    #[must_use]
    pub fn new(rules: Rules, naming: Naming, control: Control) -> Self {
        Self {
            propagation: None,
            propagate: false,
            rules,
            naming,
            control,
            selection: Arc::default(),
            command: HashSet::new(),
            exits: 0,
        }
    }

    /// For the assembler.
    #[must_use]
    pub fn selection(&self) -> Arc<Mutex<Selection>> {
        Arc::clone(&self.selection)
    }

    fn with<R>(&self, change: impl FnOnce(&mut Selection) -> R) -> R {
        // A poisoned lock means that a thread panicked, which ends the process.
        change(&mut self.selection.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn take(&mut self, facts: &Facts, name: Option<&Selector>) {
        let language = Language::of(facts);
        let resource = Arc::new(self.naming.resource(facts, language, name));
        tracing::info!(pid = facts.pid, exe = %facts.exe, service = %resource.service_name, "Tracing a process.");
        self.with(|selection| {
            selection.gone.remove(&facts.pid);
            selection.live.insert(facts.pid, resource);
        });
        self.control.select(facts.pid, language.threads_hold_requests());
        self.propagate(facts.pid, name);
    }

    fn propagate(&self, pid: u32, entry: Option<&Selector>) {
        if let Some(propagation) = &self.propagation {
            let own = entry.and_then(|entry| entry.context_propagation);
            propagation.adopt(pid, own.map_or(self.propagate, |own| own.headers));
        }
    }

    fn drop_process(&mut self, pid: u32) {
        if let Some(propagation) = &self.propagation {
            propagation.adopt(pid, false);
        }
        self.control.deselect(pid);
        self.with(|selection| selection.leave(pid));
    }

    fn evaluate(&mut self, pid: u32, known_port: Option<u16>, listeners: &mut Listeners) {
        // Never ourselves, whatever the rules say and whoever started us: what we export would be traced.
        if pid == std::process::id() {
            return;
        }
        let Some(facts) = Facts::read(pid) else { return };
        if self.command.contains(&pid) {
            return self.take(&facts, None);
        }
        match self.rules.clone().select(&facts, known_port, listeners) {
            Some(entry) => {
                self.take(&facts, Some(entry));
                // The kernel side tells of the forks of selected processes: of those before, nobody has.
                for child in children(pid) {
                    if !self.control.is_selected(child) {
                        self.evaluate(child, None, listeners);
                    }
                }
            }
            None if self.control.is_selected(pid) => self.drop_process(pid),
            None => {}
        }
    }

    /// Looks at every process there is.
    pub fn scan(&mut self) {
        let mut seen = HashSet::new();
        // Until nothing is new: what is born while we look is in no list of before.
        for _ in 0..MOST_LOOKS {
            let new: Vec<u32> = pids().into_iter().filter(|pid| seen.insert(*pid)).collect();
            if new.is_empty() {
                return;
            }
            let mut listeners = Listeners::default();
            for pid in new {
                // A child of a selected process may be here before we heard of its fork: it is not to be let go.
                let known = self.with(|selection| selection.live.contains_key(&pid));
                if !known && !self.control.is_selected(pid) {
                    self.evaluate(pid, None, &mut listeners);
                }
            }
        }
    }

    /// Selects a command that is about to run, and all its descendants.
    pub fn follow(&mut self, pid: u32) {
        self.command.insert(pid);
        self.evaluate(pid, None, &mut Listeners::default());
    }

    /// Other rules: what they select now is taken up, what they do not is let go.
    pub fn reload(&mut self, rules: Rules) {
        self.rules = rules.clone();
        let now: Vec<u32> = self.with(|selection| selection.live.keys().copied().collect());
        let mut listeners = Listeners::default();
        for pid in now {
            let entry = Facts::read(pid).and_then(|facts| rules.select(&facts, None, &mut listeners));
            if entry.is_some() || self.command.contains(&pid) {
                self.propagate(pid, entry);
            } else {
                self.drop_process(pid);
            }
        }
        self.scan();
    }

    /// From now on processes that are selected are given headers, by default if `always`.
    pub fn set_propagation(&mut self, propagation: Option<Propagation>, always: bool) {
        self.propagation = propagation;
        self.propagate = always;
    }

    /// Takes an event of the kernel side.
    pub fn on_event(&mut self, event: ProcEvent) {
        match event {
            ProcEvent::Fork { parent, child } => {
                if self.command.contains(&parent) {
                    self.command.insert(child);
                }
                // It may have gone on to exec, or be gone; then those events follow.
                if let Some(propagation) = &self.propagation {
                    propagation.forked(parent, child);
                }
                let resource = self.with(|selection| selection.resource(parent));
                if let Some(resource) = resource {
                    let resource = Arc::new(self.naming.of_child(&resource, child));
                    self.with(|selection| {
                        selection.gone.remove(&child);
                        selection.live.insert(child, resource);
                    });
                }
            }
            ProcEvent::Exec { serving, pid } => {
                if let Some(propagation) = &self.propagation {
                    propagation.executed(pid);
                }
                // A child that works for an open request belongs to the service that started it.
                if !(serving && self.control.is_selected(pid)) {
                    self.evaluate(pid, None, &mut Listeners::default());
                }
            }
            ProcEvent::Listen { pid, port, .. } => {
                if !self.control.is_selected(pid) {
                    self.evaluate(pid, Some(port), &mut Listeners::default());
                }
            }
            ProcEvent::Exit { pid } => {
                self.command.remove(&pid);
                // Its bits as well: what was decided about it may have come after its end.
                self.control.deselect(pid);
                if let Some(propagation) = &self.propagation {
                    propagation.gone(pid);
                }
                self.with(|selection| selection.leave(pid));
                self.exits += 1;
                if self.exits.is_multiple_of(256) {
                    let live: HashSet<u32> = self.with(|selection| selection.live.keys().copied().collect());
                    self.control.sweep_destinations(|pid| live.contains(&pid));
                }
            }
        }
    }
}
