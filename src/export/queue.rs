//! The queue in front of the exporter, batching, retries, and the exporter's thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use tokio::sync::watch;
use tracing::{info, warn};

use super::settings::{ExportSettings, Protocol};
use super::{encode, grpc, http};
use crate::selfmetrics::Metrics;
use crate::span::Span;

/// How often a failing endpoint is spoken of.
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);

/// How long a collector can make us wait by its word alone.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// The thread ends by itself at the deadline; this is for what cannot be interrupted.
const GRACE: Duration = Duration::from_millis(200);

/// How long the very first spans wait for others: whoever starts spanwire wants to see that it works, or why it does not.
const FIRST_BATCH: Duration = Duration::from_millis(10);

/// Bytes of a request; gRPC servers take 4 MiB unless told otherwise.
const REQUEST_MAX: usize = 3 << 20;

/// The endpoint took the request.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    /// Spans it says it did not take.
    pub(super) rejected: u64,
    /// What it says of that.
    pub(super) message: String,
}

/// The endpoint did not take the request.
#[derive(Debug)]
pub(super) struct Failure {
    /// Whether the same request may succeed later.
    pub(super) retry: bool,
    /// When to try again, by the endpoint's word.
    pub(super) after: Option<Duration>,
    /// For the log.
    pub(super) message: String,
}

/// The sending half. Never blocks: what does not fit is dropped and counted.
///
/// The channel itself has no bound; the number of spans in it has, which is what memory goes by.
#[derive(Clone, Debug)]
pub struct SpanQueue {
    sender: Sender<Vec<Span>>,
    waiting: Arc<AtomicUsize>,
    limit: usize,
    metrics: Arc<Metrics>,
}

impl SpanQueue {
    /// Hands spans to the exporter.
    pub fn push(&self, spans: Vec<Span>) {
        let count = spans.len();
        if self.waiting.fetch_add(count, Ordering::AcqRel) + count > self.limit {
            self.waiting.fetch_sub(count, Ordering::AcqRel);
            self.metrics.dropped("export", "queue_full", count as u64);
            return;
        }
        if self.sender.send(spans).is_err() {
            self.metrics.dropped("export", "stopped", count as u64);
        }
    }
}

/// The exporter's thread.
#[derive(Debug)]
pub struct Exporter {
    thread: JoinHandle<()>,
    stop: watch::Sender<Option<Instant>>,
    waiting: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

enum Client {
    Grpc(Box<grpc::Client>),
    Http(Box<http::Client>),
}

struct Worker {
    settings: ExportSettings,
    receiver: Receiver<Vec<Span>>,
    stop: watch::Receiver<Option<Instant>>,
    left: u64,
    waiting: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    complained: Option<Instant>,
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Exporter {
    /// Checks the settings and starts the thread.
    pub fn start(settings: ExportSettings, metrics: Arc<Metrics>) -> Result<(Self, SpanQueue)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the exporter's runtime")?;
        let client = {
            let _inside = runtime.enter();
            match settings.protocol {
                Protocol::Grpc => Client::Grpc(Box::new(grpc::Client::new(&settings)?)),
                Protocol::HttpProtobuf => Client::Http(Box::new(http::Client::new(&settings)?)),
            }
        };
        let (sender, receiver) = unbounded();
        let (stop, stopped) = watch::channel(None);
        let waiting = Arc::new(AtomicUsize::new(0));
        let (counted, told) = (Arc::clone(&waiting), Arc::clone(&metrics));
        let queue = SpanQueue {
            sender,
            waiting: Arc::clone(&waiting),
            limit: settings.queue_size,
            metrics: Arc::clone(&metrics),
        };
        let mut worker = Worker {
            settings,
            receiver,
            stop: stopped,
            left: 0,
            waiting,
            metrics,
            complained: None,
            runtime,
            client,
        };
        let thread = crate::pipeline::spawn("export-otlp", move || worker.run())?;
        Ok((Self { thread, stop, waiting: counted, metrics: told }, queue))
    }

    /// Sends what is queued, until `deadline`. All [`SpanQueue`]s must be gone.
    pub fn finish(self, deadline: Instant) {
        let _ended = self.stop.send(Some(deadline));
        while !self.thread.is_finished() && Instant::now() < deadline + GRACE {
            std::thread::sleep(Duration::from_millis(2));
        }
        if !self.thread.is_finished() {
            let left = self.waiting.load(Ordering::Acquire) as u64;
            self.metrics.dropped("export", "shutdown", left);
            warn!(spans = left, "The exporter does not end; what was left is lost.");
        }
    }
}

/// Ready at the deadline, once there is one.
async fn time_is_up(mut stop: watch::Receiver<Option<Instant>>) {
    loop {
        let deadline = *stop.borrow_and_update();
        if let Some(deadline) = deadline {
            return tokio::time::sleep_until(deadline.into()).await;
        }
        if stop.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

impl Worker {
    fn run(&mut self) {
        let mut batch: Vec<Span> = Vec::new();
        let mut timeout = self.settings.batch_timeout.min(FIRST_BATCH);
        loop {
            let open = self.fill(&mut batch, timeout);
            timeout = self.settings.batch_timeout;
            while !batch.is_empty() {
                let rest = batch.split_off(batch.len().min(self.settings.batch_max_size));
                let full = std::mem::replace(&mut batch, rest);
                self.deliver(&full);
                self.waiting.fetch_sub(full.len(), Ordering::AcqRel);
                if open && batch.len() < self.settings.batch_max_size {
                    break;
                }
            }
            if !open {
                break;
            }
        }
        if self.left > 0 {
            warn!(spans = self.left, "The collector did not take what was left in time.");
        }
    }

    /// Collects a batch, which waits from its first span on. False once the last sender is gone and the channel is empty.
    fn fill(&mut self, batch: &mut Vec<Span>, timeout: Duration) -> bool {
        if batch.is_empty() {
            match self.receiver.recv() {
                Ok(spans) => batch.extend(spans),
                Err(_) => return false,
            }
        }
        let until = Instant::now() + timeout;
        while batch.len() < self.settings.batch_max_size {
            match self.receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(spans) => batch.extend(spans),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        true
    }

    fn deliver(&mut self, batch: &[Span]) {
        let count = batch.len() as u64;
        let mut ready = Some(encode(batch, self.settings.link_attribute));
        if batch.len() > 1 && ready.as_ref().is_some_and(|request| request.encoded_len() > REQUEST_MAX) {
            let (first, second) = batch.split_at(batch.len() / 2);
            self.deliver(first);
            return self.deliver(second);
        }
        let begun = Instant::now();
        let mut pause = self.settings.retry.initial;
        loop {
            let request = ready.take().unwrap_or_else(|| encode(batch, self.settings.link_attribute));
            let Some(result) = self.send(request) else { return self.leave(count) };
            let failure = match result {
                Ok(delivered) => {
                    self.metrics.exported(count - delivered.rejected.min(count), true);
                    if delivered.rejected > 0 {
                        self.metrics.dropped("export", "rejected", delivered.rejected);
                        self.complain(&format!(
                            "it refused {} spans: {}",
                            delivered.rejected, delivered.message
                        ));
                    } else if self.complained.take().is_some() {
                        info!(endpoint = %self.settings.endpoint, "The collector takes spans again.");
                    }
                    return;
                }
                Err(failure) => failure,
            };
            self.metrics.exported(0, false);
            self.complain(&failure.message);
            if !failure.retry {
                return self.metrics.dropped("export", "refused", count);
            }
            if begun.elapsed() >= self.settings.retry.max_elapsed {
                return self.metrics.dropped("export", "retries_exhausted", count);
            }
            if self.pause(failure.after.unwrap_or(pause)).is_none() {
                return self.leave(count);
            }
            pause = pause.saturating_mul(2).min(self.settings.retry.max);
        }
    }

    /// None if there was no time left for it.
    fn send(&mut self, request: ExportTraceServiceRequest) -> Option<Result<Delivered, Failure>> {
        let stop = self.stop.clone();
        self.runtime.block_on(async {
            let sent = async {
                match &mut self.client {
                    Client::Grpc(client) => client.send(request).await,
                    Client::Http(client) => client.send(request).await,
                }
            };
            tokio::select! {
                result = sent => Some(result),
                () = time_is_up(stop) => None,
            }
        })
    }

    /// Waits, with some jitter. None if there was no time left for it.
    fn pause(&self, length: Duration) -> Option<()> {
        let length = length.min(PAUSE_MAX);
        let stop = self.stop.clone();
        self.runtime.block_on(async {
            tokio::select! {
                () = tokio::time::sleep(length + length * fastrand::u32(0..50) / 200) => Some(()),
                () = time_is_up(stop) => None,
            }
        })
    }

    /// There is no time left for so many spans.
    fn leave(&mut self, count: u64) {
        self.left += count;
        self.metrics.dropped("export", "shutdown", count);
    }

    fn complain(&mut self, message: &str) {
        if self.complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
            warn!(endpoint = %self.settings.endpoint, reason = message, "The collector did not take spans.");
            self.complained = Some(Instant::now());
        }
    }
}
