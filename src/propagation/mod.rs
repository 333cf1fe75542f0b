//! Context in outgoing requests: whether sockets may be claimed on this host, which, and for how long.
//!
//! Membership of a sockhash is what lets the kernel side see a request before it leaves. On kernels with a
//! regression it also hides pending bytes from `ioctl(FIONREAD)`; there a program is shown to never ask before
//! its sockets are claimed for longer than one request. Measured at start, by [`selftest`].

mod asks;
mod cgroup;
mod existing;
mod selftest;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};

pub use selftest::Membership;

use crate::bpf::abi::ev_claim;
use crate::bpf::{Claims, Control, Injection, Injector, LoadOptions, Reader, Ring, Stop, Tracer};
use crate::config::{Claim, Net};
use crate::pipeline::spawn;

/// How often processes are looked at again.
const TICK: Duration = Duration::from_millis(250);
/// When a process's libraries are searched again: they are loaded over time.
const REVIEWS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(60)];

/// Handle to the running injection.
#[derive(Clone)]
pub struct Propagation(Arc<Inner>);

struct Inner {
    membership: Membership,
    claim: Claim,
    control: Control,
    claims: Claims,
    processes: Mutex<HashMap<u32, Tracked>>,
    asks: Mutex<asks::Searched>,
}

/// A process whose requests are given a header.
struct Tracked {
    since: Instant,
    reviews: usize,
    injection: Injection,
    /// Its connections from before are still to be claimed.
    backfill: bool,
}

impl fmt::Debug for Propagation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Propagation").field("membership", &self.0.membership).finish_non_exhaustive()
    }
}

/// What keeps injection going. Dropped, every socket is as it was before.
#[derive(Debug)]
pub struct Running {
    stop: Stop,
    thread: Option<JoinHandle<()>>,
    injector: Injector,
}

impl Running {
    /// Destinations that nothing is written to.
    pub fn deny(&self, nets: &[Net]) -> libbpf_rs::Result<()> {
        self.injector.deny(nets)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.signal();
        if let Some(thread) = self.thread.take() {
            let _panics_exit = thread.join();
        }
    }
}

/// What [`start`] would find, and nothing is claimed; and whether it is for processes of all cgroups. For `spanwire check`.
pub fn probe(tracer: &Tracer, options: &LoadOptions) -> Result<(Membership, bool), String> {
    let injector = Injector::load(tracer, options)?;
    let whole = cgroup::root()?.whole;
    match selftest::run(&injector.claims()).map_err(|e| format!("the self-test of claimed sockets: {e}"))? {
        Membership::Broken(how) => Err(format!("a claimed socket behaves differently on this kernel: {how}")),
        membership => Ok((membership, whole)),
    }
}

/// Loads what writes headers. An error switches injection off, and nothing else.
pub fn start(tracer: &Tracer, options: &LoadOptions, claim: Claim) -> Result<(Propagation, Running), String> {
    let mut injector = Injector::load(tracer, options)?;
    let claims = injector.claims();
    let membership = selftest::run(&claims).map_err(|e| format!("the self-test of claimed sockets: {e}"))?;
    if let Membership::Broken(how) = &membership {
        return Err(format!("a claimed socket behaves differently on this kernel: {how}"));
    }
    let root = cgroup::root()?;
    if !root.whole {
        warn!(
            "Only processes of our own cgroup and below are given headers: the root of the hierarchy is out of reach."
        );
    }
    injector.attach(&root.file)?;
    let inner = Inner {
        membership,
        claim,
        control: tracer.control(),
        claims,
        processes: Mutex::default(),
        asks: Mutex::default(),
    };
    info!(membership = inner.membership.as_str(), "Context is written into outgoing requests.");
    let propagation = Propagation(Arc::new(inner));
    let stop = Stop::new().map_err(|e| e.to_string())?;
    let thread = {
        let (propagation, stop) = (propagation.clone(), stop.clone());
        let ring = libbpf_rs::MapHandle::try_from(injector.ring()).map_err(|e| e.to_string())?;
        spawn("claims", move || propagation.run(&ring, stop)).map_err(|e| e.to_string())?
    };
    Ok((propagation, Running { stop, thread: Some(thread), injector }))
}

impl Propagation {
    fn processes(&self) -> MutexGuard<'_, HashMap<u32, Tracked>> {
        self.0.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What membership does on this kernel.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.0.membership
    }

    /// A process is selected, or its rule changed: `wanted` is whether it is to be given headers.
    pub fn adopt(&self, pid: u32, wanted: bool) {
        if !wanted {
            self.control().inject(pid, Injection::Off);
            if self.processes().remove(&pid).is_some() {
                self.release(pid);
            }
            return;
        }
        let injection = self.at_first();
        let mut processes = self.processes();
        if processes.contains_key(&pid) {
            return;
        }
        self.control().inject(pid, injection);
        let backfill = injection == Injection::Lasting;
        processes.insert(pid, Tracked { since: Instant::now(), reviews: 0, injection, backfill });
    }

    /// How a process is treated that nothing is known about.
    fn at_first(&self) -> Injection {
        match (self.0.claim, &self.0.membership) {
            (Claim::Lasting, _) | (Claim::Auto, Membership::Harmless) => Injection::Lasting,
            _ => Injection::Brief,
        }
    }

    /// A fork is treated as its parent. The kernel side has done that already, with what it was told by then:
    /// after an exec of the parent that may be brief claims where all are lasting.
    pub fn forked(&self, parent: u32, child: u32) {
        let mut processes = self.processes();
        let Some(injection) = processes.get(&parent).map(|parent| parent.injection) else { return };
        if self.at_first() == Injection::Lasting {
            self.control().inject(child, injection);
        }
        let tracked = Tracked { since: Instant::now(), reviews: 0, injection, backfill: false };
        processes.insert(child, tracked);
    }

    /// Another program runs in the process. The kernel side took it back to brief claims.
    pub fn executed(&self, pid: u32) {
        let Some(old) = self.processes().remove(&pid) else { return };
        self.adopt(pid, true);
        let now = self.processes().get(&pid).map(|process| process.injection);
        if old.injection == Injection::Lasting && now == Some(Injection::Brief) {
            self.release(pid); // sockets that it kept over the exec, claimed as suited the program before
        }
    }

    /// A process is gone, with its sockets.
    pub fn gone(&self, pid: u32) {
        self.processes().remove(&pid);
    }

    fn control(&self) -> &Control {
        &self.0.control
    }

    fn run(&self, ring: &libbpf_rs::MapHandle, stop: Stop) {
        let take = |record: &[u8]| {
            let mut event = ev_claim::default();
            if plain::copy_from_bytes(&mut event, record).is_ok() {
                self.0.claims.remove(event.cookie);
            }
        };
        let read = Ring::new(ring, take).and_then(|ring| {
            let mut next = Instant::now();
            Reader::new(ring, stop, TICK).run(|_| {
                if Instant::now() >= next {
                    self.review();
                    next = Instant::now() + TICK;
                }
            })
        });
        if let Err(error) = read {
            error!(error = %format!("{error:#}"), "The ring of claims cannot be read.");
        }
    }

    /// Claims older connections, and decides anew about processes that may ask.
    fn review(&self) {
        let mut backfill = Vec::new();
        let mut search = Vec::new();
        for (pid, process) in self.processes().iter_mut() {
            if process.backfill {
                process.backfill = false;
                backfill.push(*pid);
            }
            let wait = REVIEWS.get(process.reviews).copied().unwrap_or(REVIEWS[2]);
            if self.0.claim == Claim::Auto
                && self.0.membership == Membership::HidesPending
                && process.since.elapsed() >= wait
            {
                process.reviews += 1;
                process.since = Instant::now();
                search.push(*pid);
            }
        }
        for pid in backfill {
            self.claim_existing(pid);
        }
        for pid in search {
            let injection = if self.may_ask(pid) { Injection::Brief } else { Injection::Lasting };
            self.change(pid, injection);
        }
    }

    fn may_ask(&self, pid: u32) -> bool {
        let mut searched = self.0.asks.lock().unwrap_or_else(PoisonError::into_inner);
        searched.process(pid)
    }

    fn change(&self, pid: u32, injection: Injection) {
        let Some(old) =
            self.processes().get_mut(&pid).map(|p| std::mem::replace(&mut p.injection, injection))
        else {
            return;
        };
        if old == injection {
            return;
        }
        debug!(pid, ?injection, "Sockets of the process are claimed differently.");
        self.control().inject(pid, injection);
        if injection == Injection::Lasting {
            self.claim_existing(pid);
        } else {
            self.release(pid);
        }
    }

    fn claim_existing(&self, pid: u32) {
        let mut claimed = 0_u32;
        let done = existing::clients(pid, self.control(), |socket, cookie| {
            match self.0.claims.add(socket, cookie) {
                Ok(true) => claimed += 1,
                Ok(false) => {}
                Err(error) => debug!(pid, %error, "A connection cannot be claimed."),
            }
        });
        match done {
            Ok(()) => debug!(pid, claimed, "Connections from before were claimed."),
            Err(error) => warn!(pid, %error, "Connections from before keep their requests as they are."),
        }
    }

    fn release(&self, pid: u32) {
        let done = existing::clients(pid, self.control(), |_, cookie| self.0.claims.remove(cookie));
        if done.is_err() {
            // Its descriptors are out of reach: what is claimed is claimed anew by its next connect.
            for cookie in self.0.claims.all().collect::<Vec<_>>() {
                self.0.claims.remove(cookie);
            }
        }
    }
}
