//! Selection: at start from `/proc`, then by the events of the kernel side.

use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::facts::{Facts, children, pids};
use super::language::Language;
use super::listen::Listeners;
use super::place::{Place, Places};
use super::waits::Waits;
use crate::bpf::{Control, Threads};
use crate::config::{Glob, IntSet, Selector};
use crate::enrich::{Basis, Naming};
use crate::event::ProcEvent;
use crate::propagation::Propagation;
use crate::runtime::Runtimes;
use crate::span::Resource;

/// Resources of processes that are gone, kept for the spans still on their way.
const GONE_KEPT: usize = 4096;

/// Looks at the processes there are, on a host where new ones come all the time.
const MOST_LOOKS: usize = 16;

/// How long spans of a process wait for the API server to tell of its pod. They go without after that.
const POD_PATIENCE: Duration = Duration::from_secs(2);

/// What selects a process.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Any of these.
    pub instrument: Vec<Selector>,
    /// None of these.
    pub exclude: Vec<Selector>,
}

/// A process that may be selected; what only some conditions ask for is found out when they do.
struct Candidate<'a> {
    facts: &'a Facts,
    /// It has just begun to listen there.
    port: Option<u16>,
    listeners: &'a RefCell<&'a mut Listeners>,
    places: &'a RefCell<&'a mut Places>,
    ports: OnceCell<Vec<u16>>,
    language: OnceCell<Language>,
    place: OnceCell<Place>,
}

fn candidate<'a>(
    facts: &'a Facts,
    port: Option<u16>,
    listeners: &'a RefCell<&'a mut Listeners>,
    places: &'a RefCell<&'a mut Places>,
) -> Candidate<'a> {
    let (ports, language, place) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
    Candidate { facts, port, listeners, places, ports, language, place }
}

impl Candidate<'_> {
    fn listens(&self, wanted: &IntSet) -> bool {
        let ports = self.ports.get_or_init(|| self.listeners.borrow_mut().of(self.facts.pid));
        ports.iter().copied().chain(self.port).any(|port| wanted.contains(port.into()))
    }

    fn language(&self) -> Language {
        *self.language.get_or_init(|| Language::of(self.facts))
    }

    fn place(&self) -> &Place {
        self.place.get_or_init(|| self.places.borrow_mut().of(self.facts.pid))
    }

    fn matches(&self, selector: &Selector) -> bool {
        let is = |glob: &Option<Glob>, text: &dyn Fn() -> String| {
            glob.as_ref().is_none_or(|glob| glob.matches(&text()))
        };
        (selector.target_pids.is_empty() || selector.target_pids.contains(self.facts.pid))
            && is(&selector.exe_path, &|| self.facts.exe.clone())
            && is(&selector.cmd_args, &|| self.facts.args.join(" "))
            && (selector.open_ports.is_empty() || self.listens(&selector.open_ports))
            && is(&selector.languages, &|| self.language().as_str().to_owned())
            && (!selector.containers_only || self.place().container.is_some())
            && selector
                .container_name
                .as_ref()
                .is_none_or(|glob| self.place().container_name().is_some_and(|name| glob.matches(name)))
            && (selector.pod.is_empty() || self.place().matches(&selector.pod))
    }
}

fn asks_for_pods(entries: &[Selector]) -> bool {
    entries.iter().any(|entry| !entry.pod.is_empty() || entry.container_name.is_some())
}

impl Rules {
    /// The first entry that selects the process, unless one excludes it.
    fn select(&self, candidate: &Candidate<'_>) -> Option<&Selector> {
        let hit = self.instrument.iter().find(|entry| candidate.matches(entry))?;
        (!self.excludes(candidate)).then_some(hit)
    }

    fn excludes(&self, candidate: &Candidate<'_>) -> bool {
        self.exclude.iter().any(|entry| candidate.matches(entry))
    }

    /// Whether what is known of pods decides what is traced.
    fn pods_select(&self) -> bool {
        asks_for_pods(&self.instrument)
    }

    /// Whether it decides anything.
    fn ask_for_pods(&self) -> bool {
        self.pods_select() || asks_for_pods(&self.exclude)
    }
}

/// A process that is traced, and what its resource is made of.
#[derive(Debug)]
struct Live {
    resource: Arc<Resource>,
    /// None where its parent is gone and left no more than a name.
    basis: Option<Arc<Basis>>,
    place: Arc<Place>,
    /// Selected as the child of a process that is, whatever the rules say of it.
    follows: bool,
    /// Its pod may become known until then.
    waits_until: Option<Instant>,
}

/// Who the selected processes are; shared with the assembler.
#[derive(Debug, Default)]
pub struct Selection {
    live: HashMap<u32, Live>,
    gone: HashMap<u32, Arc<Resource>>,
    gone_order: std::collections::VecDeque<u32>,
}

impl Selection {
    /// The resource of a process that is, or was a moment ago, selected. With `patience` none while more about it may
    /// come to be known soon.
    #[must_use]
    pub fn resource(&self, pid: u32, patience: bool) -> Option<Arc<Resource>> {
        match self.live.get(&pid) {
            Some(live) if patience && live.waits_until.is_some_and(|until| Instant::now() < until) => None,
            Some(live) => Some(Arc::clone(&live.resource)),
            None => self.gone.get(&pid).cloned(),
        }
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
        let Some(live) = self.live.remove(&pid) else { return };
        self.gone.insert(pid, live.resource);
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
    places: Places,
    control: Control,
    selection: Arc<Mutex<Selection>>,
    /// Started by `spanwire run -- CMD`, with descendants: selected whatever they run.
    command: HashSet<u32>,
    exits: u32,
    propagation: Option<Propagation>,
    runtimes: Option<Runtimes>,
    waits: Option<Waits>,
    /// Where the entry that selects a process does not say.
    propagate: bool,
}

impl Discovery {
    /// Nothing is selected yet.
    #[must_use]
    pub fn new(rules: Rules, naming: Naming, places: Places, control: Control) -> Self {
        Self {
            propagation: None,
            runtimes: None,
            waits: None,
            propagate: false,
            rules,
            naming,
            places,
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

    fn take(&mut self, facts: &Facts, entry: Option<&Selector>) -> Language {
        let language = Language::of(facts);
        let basis = self.naming.basis(facts, language, entry);
        let place = self.places.of(facts.pid);
        let resource = Arc::new(self.naming.resource(&basis, &place));
        let waits_until = place.pod_may_come.then(|| Instant::now() + POD_PATIENCE);
        let live = Live {
            resource,
            basis: Some(Arc::new(basis)),
            place: Arc::new(place),
            follows: false,
            waits_until,
        };
        let service = live.resource.service_name.clone();
        let known = self.with(|selection| {
            selection.gone.remove(&facts.pid);
            selection.live.insert(facts.pid, live)
        });
        if known.is_none_or(|known| known.resource.service_name != service) {
            tracing::info!(pid = facts.pid, exe = %facts.exe, service = %service, "Tracing a process.");
        }
        self.control.select(facts.pid, language.threads());
        self.with_runtimes(|runtimes| runtimes.select(facts.pid));
        self.propagate(facts.pid, entry);
        language
    }

    /// More is known of pods now.
    pub fn on_pods(&mut self, uids: &HashSet<Box<str>>) {
        if self.rules.ask_for_pods() {
            let mut listeners = Listeners::default();
            for pid in pids() {
                if !self.places.of(pid).pod.is_some_and(|pod| uids.contains(&pod.uid)) {
                    continue;
                }
                match self.with(|selection| selection.live.get(&pid).map(|live| live.follows)) {
                    Some(true) => {}
                    // What selected it has nothing to do with pods, and may not be seen any more, such as a port.
                    Some(false) if !self.rules.pods_select() => self.drop_if_excluded(pid, &mut listeners),
                    _ => self.evaluate(pid, None, &mut listeners),
                }
            }
        }
        let (naming, places) = (&self.naming, &self.places);
        let mut renamed = Vec::new();
        self.with(|selection| {
            for (pid, live) in &mut selection.live {
                let place = places.again(&live.place);
                let Some(basis) = live
                    .basis
                    .as_ref()
                    .filter(|_| place.pod.as_ref().is_some_and(|pod| uids.contains(&pod.uid)))
                else {
                    continue;
                };
                let resource = naming.resource(basis, &place);
                live.waits_until = None;
                live.place = Arc::new(place);
                if *live.resource != resource {
                    if live.resource.service_name != resource.service_name {
                        renamed.push((*pid, resource.service_name.clone()));
                    }
                    live.resource = Arc::new(resource);
                }
            }
        });
        for (pid, service) in renamed {
            tracing::info!(pid, service = %service, "A process has the name of its pod.");
        }
    }

    fn drop_if_excluded(&mut self, pid: u32, listeners: &mut Listeners) {
        let Some(facts) = Facts::read(pid) else { return };
        let excluded =
            self.rules.excludes(&candidate(&facts, None, &listeners.into(), &(&mut self.places).into()));
        if excluded && !self.command.contains(&pid) {
            self.drop_process(pid);
        }
    }

    fn with_waits(&mut self, change: impl FnOnce(&mut Waits)) {
        if let Some(waits) = &mut self.waits {
            change(waits);
        }
    }

    fn with_runtimes(&mut self, change: impl FnOnce(&mut Runtimes)) {
        if let Some(runtimes) = &mut self.runtimes {
            change(runtimes);
        }
    }

    /// A process that is selected already has shown that it serves requests.
    fn serves(&mut self, pid: u32) {
        if let Some(facts) = Facts::read(pid).filter(|_| self.control.is_selected(pid)) {
            let language = Language::of(&facts);
            self.with_runtimes(|runtimes| runtimes.serves(pid, language));
            self.holds(pid, language);
        }
    }

    /// What the threads of a process wait for matters where they may hold a request.
    fn holds(&mut self, pid: u32, language: Language) {
        if language.threads() == Threads::Held {
            self.with_waits(|waits| waits.expect(pid));
        }
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
        self.with_runtimes(|runtimes| runtimes.deselect(pid));
        self.with_waits(|waits| waits.forget(pid));
        self.with(|selection| {
            // What waits for the name of its pod is not to be told if that is why it is let go.
            let waits = |live: &Live| live.waits_until.is_some_and(|until| Instant::now() < until);
            if selection.live.get(&pid).is_some_and(waits) {
                selection.live.remove(&pid);
            }
            selection.leave(pid);
        });
    }

    fn evaluate(&mut self, pid: u32, known_port: Option<u16>, listeners: &mut Listeners) {
        // Never ourselves, whatever the rules say and whoever started us: what we export would be traced.
        if pid == std::process::id() {
            return;
        }
        let Some(facts) = Facts::read(pid) else { return };
        if self.command.contains(&pid) {
            let language = self.take(&facts, None);
            self.holds(pid, language);
            return;
        }
        match self.select(&facts, known_port, listeners) {
            Some(entry) => {
                let language = self.take(&facts, Some(&entry));
                self.holds(pid, language);
                if Runtimes::can_probe(language) && (known_port.is_some() || !listeners.of(pid).is_empty()) {
                    self.with_runtimes(|runtimes| runtimes.serves(pid, language));
                }
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

    fn select(&mut self, facts: &Facts, port: Option<u16>, listeners: &mut Listeners) -> Option<Selector> {
        let (listeners, places) = (listeners.into(), (&mut self.places).into());
        self.rules.select(&candidate(facts, port, &listeners, &places)).cloned()
    }

    /// Looks at every process there is. `listeners` may be from before, as new ones tell of themselves.
    pub fn scan(&mut self, mut listeners: Listeners) {
        let mut seen = HashSet::new();
        // Until nothing is new: what is born while we look is in no list of before.
        for _ in 0..MOST_LOOKS {
            let new: Vec<u32> = pids().into_iter().filter(|pid| seen.insert(*pid)).collect();
            if new.is_empty() {
                return;
            }
            for pid in new {
                // A child of a selected process may be here before we heard of its fork: it is not to be let go.
                let known = self.with(|selection| selection.live.contains_key(&pid));
                if !known && !self.control.is_selected(pid) {
                    self.evaluate(pid, None, &mut listeners);
                }
            }
            listeners = Listeners::default();
        }
    }

    /// Selects a command that is about to run, and all its descendants.
    pub fn follow(&mut self, pid: u32) {
        self.command.insert(pid);
        self.evaluate(pid, None, &mut Listeners::default());
    }

    /// Other rules: what they select now is taken up, what they do not is let go.
    pub fn reload(&mut self, rules: Rules) {
        self.rules = rules;
        let now: Vec<u32> = self.with(|selection| selection.live.keys().copied().collect());
        let mut listeners = Listeners::default();
        for pid in now {
            let entry = Facts::read(pid).and_then(|facts| self.select(&facts, None, &mut listeners));
            if entry.is_some() || self.command.contains(&pid) {
                self.propagate(pid, entry.as_ref());
            } else {
                self.drop_process(pid);
            }
        }
        self.scan(listeners);
    }

    /// From now on processes that are selected are given headers, by default if `always`.
    pub fn set_propagation(&mut self, propagation: Option<Propagation>, always: bool) {
        self.propagation = propagation;
        self.propagate = always;
    }

    /// From now on processes may have the probes of their runtime.
    pub fn set_runtimes(&mut self, runtimes: Runtimes) {
        self.runtimes = Some(runtimes);
    }

    /// From now on it is looked at what the threads of processes wait for.
    pub fn set_waits(&mut self, waits: Waits) {
        self.waits = Some(waits);
    }

    /// What is due after a while. To be called now and then.
    pub fn tick(&mut self) {
        self.with_runtimes(Runtimes::tick);
        self.with_waits(Waits::tick);
    }

    /// Whether they are to have them.
    pub fn probe_runtimes(&mut self, wanted: bool) {
        self.with_runtimes(|runtimes| runtimes.enable(wanted));
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
                self.with_runtimes(|runtimes| runtimes.forked(parent, child));
                self.with_waits(|waits| waits.forked(parent, child));
                let naming = &self.naming;
                self.with(|selection| {
                    let born = match (selection.live.get(&parent), selection.gone.get(&parent)) {
                        (Some(live), _) => {
                            let basis = live.basis.as_ref().map(|basis| Arc::new(basis.of_child(child)));
                            let resource = match &basis {
                                Some(basis) => naming.resource(basis, &live.place),
                                None => naming.of_child(&live.resource, child),
                            };
                            let (resource, place) = (Arc::new(resource), Arc::clone(&live.place));
                            Live { resource, basis, place, follows: true, waits_until: live.waits_until }
                        }
                        (None, Some(resource)) => Live {
                            resource: Arc::new(naming.of_child(resource, child)),
                            basis: None,
                            place: Arc::default(),
                            follows: true,
                            waits_until: None,
                        },
                        (None, None) => return,
                    };
                    selection.gone.remove(&child);
                    selection.live.insert(child, born);
                });
            }
            ProcEvent::Exec { serving, pid } => {
                if let Some(propagation) = &self.propagation {
                    propagation.executed(pid);
                }
                self.with_runtimes(|runtimes| runtimes.forget(pid));
                self.with_waits(|waits| waits.executed(pid));
                // A child that works for an open request belongs to the service that started it.
                if !(serving && self.control.is_selected(pid)) {
                    self.evaluate(pid, None, &mut Listeners::default());
                }
            }
            ProcEvent::Listen { pid, port, .. } => {
                if self.control.is_selected(pid) {
                    self.serves(pid);
                } else {
                    self.evaluate(pid, Some(port), &mut Listeners::default());
                }
            }
            ProcEvent::Loop { pid } => {
                self.serves(pid);
            }
            ProcEvent::Exit { pid } => {
                self.command.remove(&pid);
                // Its bits as well: what was decided about it may have come after its end.
                self.control.deselect(pid);
                if let Some(propagation) = &self.propagation {
                    propagation.gone(pid);
                }
                self.with_runtimes(|runtimes| runtimes.forget(pid));
                self.with_waits(|waits| waits.forget(pid));
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
