//! The only wiring: which thread does what, and how they stop.
//!
//! ```text
//! rb-data ── records ──▶ assemble ── spans ──▶ sink (exporter, printers)
//! rb-ctl  ── process events ──▶ discovery ──▶ selection in the kernel side
//! ```
//!
//! `rb-data` blocks when `assemble` is behind: what is lost then is lost in the kernel's ring,
//! where it is counted. The sink never blocks; it drops and counts.

mod records;

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use libbpf_rs::MapHandle;
use tracing::{debug, error, warn};

pub use records::Records;

use crate::bpf::{Control, Fill, Reader, Ring, Stop};
use crate::conn::{Assembler, Totals};
use crate::event::{self, ProcEvent};
use crate::selfmetrics::{Health, Metrics, Stage};
use crate::span::{Resource, Span};
use crate::time::{WallClock, monotonic_ns};

/// How long a record may wait in the ring when nothing wakes the reader.
const TICK: Duration = Duration::from_millis(50);
/// Batches between the ring's reader and the assembler.
const BATCHES: usize = 64;
/// A batch is handed on when it has grown to this.
const BATCH_BYTES: usize = 64 << 10;
/// How often open requests are looked through for those that are too old.
const EXPIRE_EVERY: Duration = Duration::from_secs(5);
/// Heads that may wait for their span.
const HEADS_MAX: usize = 8192;

/// Tells who a process is; none, where it is asked with patience, if that may be known soon. Called for every span.
pub type Resources = Arc<dyn Fn(u32, bool) -> Option<Arc<Resource>> + Send + Sync>;

/// Takes finished spans. Must not block.
pub type Sink = Box<dyn FnMut(Vec<Span>) + Send>;

/// Gets a copy of every record of the data ring.
pub type Recorder = Box<dyn FnMut(&[u8]) + Send>;

/// Gets what the assembler counts, whenever it has changed.
pub type OnTotals = Box<dyn FnMut(Totals) + Send>;

/// Starts a thread that the process cannot live without: a panic ends it all, with status 70.
pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let label = name.to_owned();
    thread::Builder::new()
        .name(label.clone())
        .spawn(move || {
            debug!(thread = %label, "Thread started.");
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).is_err() {
                error!(thread = %label, "A thread panicked; giving up.");
                std::process::exit(70);
            }
        })
        .with_context(|| format!("starting the thread {name}"))
}

/// The running pipeline.
#[derive(Debug)]
pub struct Pipeline {
    stop: Stop,
    threads: Vec<JoinHandle<()>>,
}

/// What the pipeline is made of.
pub struct Parts {
    /// The ring of spans.
    pub data: MapHandle,
    /// The ring of process events.
    pub ctl: MapHandle,
    /// The running kernel side.
    pub control: Control,
    /// Names of processes.
    pub resources: Resources,
    /// Where spans go.
    pub sink: Sink,
    /// Where totals go.
    pub totals: OnTotals,
    /// Gets process events, on a thread of its own.
    pub on_process: Box<dyn FnMut(ProcEvent) + Send>,
    /// `ebpf.max_transaction_time`.
    pub max_transaction_time: Duration,
    /// Hears that the threads live, and how full the rings are.
    pub metrics: Arc<Metrics>,
    /// Gets a copy of every record, for `--record`.
    pub record: Option<Recorder>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

impl Pipeline {
    /// Starts all threads.
    pub fn start(parts: Parts) -> Result<Self> {
        let stop = Stop::new()?;
        let (sender, receiver) = bounded::<Records>(BATCHES);
        let Parts {
            data,
            ctl,
            control,
            resources,
            sink,
            totals,
            on_process,
            max_transaction_time,
            metrics,
            record,
        } = parts;
        let max_age = u64::try_from(max_transaction_time.as_nanos()).unwrap_or(u64::MAX);
        let assemble = Assemble {
            receiver,
            assembler: Assembler::new(HEADS_MAX),
            clock: WallClock::new(),
            resources,
            sink,
            totals,
            control,
            max_age,
            health: metrics.health.clone(),
        };
        let mut threads = vec![spawn("assemble", move || assemble.run())?];

        let (data_stop, told) = (stop.clone(), Arc::clone(&metrics));
        threads.push(spawn("rb-data", move || {
            let batch = std::cell::RefCell::new(Records::default());
            let record = std::cell::RefCell::new(record);
            let send = |full: &mut Records| {
                // The receiver lives until we drop the sender.
                let _gone = sender.send(std::mem::take(full));
            };
            let ring = Ring::new(&data, |bytes| {
                if let Some(record) = record.borrow_mut().as_mut() {
                    record(bytes);
                }
                let mut batch = batch.borrow_mut();
                batch.push(bytes);
                if batch.bytes() >= BATCH_BYTES {
                    send(&mut batch);
                }
            });
            let read = ring.and_then(|ring| {
                Reader::new(ring, data_stop, TICK).run(|fill| {
                    told.health.beat(Stage::Data);
                    told.ring("data", fill.waiting, fill.size);
                    let mut batch = batch.borrow_mut();
                    if batch.bytes() > 0 {
                        send(&mut batch);
                    }
                })
            });
            if let Err(error) = read {
                error!(error = %format!("{error:#}"), "The ring of spans cannot be read.");
            }
        })?);

        let ctl_stop = stop.clone();
        threads.push(spawn("rb-ctl", move || {
            let mut on_process = on_process;
            let ring = Ring::new(&ctl, move |bytes| match event::decode_proc(bytes) {
                Ok(event) => on_process(event),
                Err(error) => warn!(%error, "A process event makes no sense."),
            });
            let told = |fill: Fill| {
                metrics.health.beat(Stage::Control);
                metrics.ring("ctl", fill.waiting, fill.size);
            };
            if let Err(error) = ring.and_then(|ring| Reader::new(ring, ctl_stop, TICK).run(told)) {
                error!(error = %format!("{error:#}"), "The ring of process events cannot be read.");
            }
        })?);
        Ok(Self { stop, threads })
    }

    /// Reads what is left in the rings, ends the threads, and waits for them until `deadline`.
    /// Returns the names of those that did not end.
    pub fn stop(self, deadline: Instant) -> Vec<String> {
        self.stop.signal();
        let mut late = Vec::new();
        for thread in self.threads.into_iter().rev() {
            while !thread.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(2));
            }
            if thread.is_finished() {
                let _panics_exit = thread.join();
            } else {
                late.push(thread.thread().name().unwrap_or("?").to_owned());
            }
        }
        late
    }
}

struct Assemble {
    receiver: Receiver<Records>,
    assembler: Assembler,
    clock: WallClock,
    resources: Resources,
    sink: Sink,
    totals: OnTotals,
    control: Control,
    max_age: u64,
    health: Health,
}

impl Assemble {
    fn run(mut self) {
        let every = EXPIRE_EVERY.min(Duration::from_nanos(self.max_age.max(1_000_000)));
        let mut next_expire = Instant::now() + every;
        loop {
            self.health.beat(Stage::Assemble);
            let mut wait = next_expire.saturating_duration_since(Instant::now());
            if self.assembler.has_early() {
                wait = wait.min(TICK);
            }
            match self.receiver.recv_timeout(wait) {
                Ok(records) => self.take(&records),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.settle(monotonic_ns());
            if Instant::now() >= next_expire {
                self.expire();
                next_expire = Instant::now() + every;
            }
        }
        self.settle(u64::MAX);
        (self.totals)(self.assembler.totals);
    }

    fn take(&mut self, records: &Records) {
        self.clock.refresh(monotonic_ns());
        let mut spans = Vec::with_capacity(records.len());
        for record in records.iter() {
            match event::decode(record) {
                Ok(event) => {
                    let span = self
                        .assembler
                        .on_event(event, &self.clock, |pid, patience| (self.resources)(pid, patience));
                    spans.extend(span);
                }
                Err(error) => {
                    self.assembler.totals.malformed += 1;
                    debug!(%error, "A record makes no sense.");
                }
            }
        }
        if !spans.is_empty() {
            (self.sink)(spans);
        }
        (self.totals)(self.assembler.totals);
    }

    /// What waits for a name goes with it, or without when it has waited long enough at `now`.
    fn settle(&mut self, now: u64) {
        if !self.assembler.has_early() {
            return;
        }
        let resources = Arc::clone(&self.resources);
        let spans = self.assembler.settle(now, &self.clock, |pid, patience| resources(pid, patience));
        if !spans.is_empty() {
            (self.sink)(spans);
        }
    }

    fn expire(&mut self) {
        let now = monotonic_ns();
        let old = self.control.open_since(now.saturating_sub(self.max_age));
        let resources = Arc::clone(&self.resources);
        let spans = self
            .assembler
            .expire(old, now, self.max_age, &self.clock, |pid, patience| resources(pid, patience));
        if !spans.is_empty() {
            (self.sink)(spans);
        }
        (self.totals)(self.assembler.totals);
    }
}
