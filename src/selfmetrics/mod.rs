//! Counters about ourselves, for Prometheus and for the log.

mod health;
mod server;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

pub use health::{Health, Stage};
pub use server::serve;

use crate::conn::Totals;
use crate::kube::Cluster;

type Labels = BTreeMap<(&'static str, &'static str), u64>;

/// Everything counted. Shared by all threads.
#[derive(Debug, Default)]
pub struct Metrics {
    server_spans: AtomicU64,
    client_spans: AtomicU64,
    dropped: Mutex<Labels>,
    kernel: Mutex<Vec<(&'static str, u64)>>,
    totals: Mutex<Totals>,
    exported_spans: AtomicU64,
    export_ok: AtomicU64,
    export_failed: AtomicU64,
    selected: AtomicI64,
    last_export: AtomicU64,
    spoken: AtomicU64,
    rings: Mutex<BTreeMap<&'static str, RingUse>>,
    cluster: OnceLock<Cluster>,
    /// Of the pipeline's threads.
    pub health: Health,
}

/// Of a ring between the kernel and us, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct RingUse {
    size: u64,
    /// Most that waited in it since the last scrape.
    most: u64,
}

/// Kernel counters that mean a span or an event is gone.
const LOSSES: [&str; 10] = [
    "ring_full_span",
    "ring_full_head",
    "ring_full_connect",
    "ring_full_ctl",
    "requests_full",
    "procs_full",
    "heads_full",
    "scratch_busy",
    "socket_state",
    "task_state",
];

impl Metrics {
    /// A finished span.
    pub fn span(&self, server: bool) {
        let counter = if server { &self.server_spans } else { &self.client_spans };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Spans that go no further.
    pub fn dropped(&self, place: &'static str, reason: &'static str, count: u64) {
        if let Ok(mut dropped) = self.dropped.lock() {
            *dropped.entry((place, reason)).or_default() += count;
        }
    }

    /// A request to the collector.
    pub fn exported(&self, spans: u64, ok: bool) {
        self.exported_spans.fetch_add(spans, Ordering::Relaxed);
        if ok { &self.export_ok } else { &self.export_failed }.fetch_add(1, Ordering::Relaxed);
        if ok {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
            self.last_export.store(now, Ordering::Relaxed);
        }
    }

    /// The kernel side's counters, as they stand.
    pub fn set_kernel(&self, counters: Vec<(&'static str, u64)>) {
        if let Ok(mut kernel) = self.kernel.lock() {
            *kernel = counters;
        }
    }

    /// The assembler's counters, as they stand.
    pub fn set_totals(&self, totals: Totals) {
        if let Ok(mut mine) = self.totals.lock() {
            *mine = totals;
        }
    }

    /// Processes that are traced.
    pub fn set_selected(&self, count: usize) {
        self.selected.store(i64::try_from(count).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Pods are watched, and this is what is known of them.
    pub fn set_cluster(&self, cluster: Cluster) {
        let _once = self.cluster.set(cluster);
    }

    /// `waiting` bytes were found in a ring of `size`.
    pub fn ring(&self, name: &'static str, waiting: u64, size: u64) {
        if let Ok(mut rings) = self.rings.lock() {
            let ring = rings.entry(name).or_default();
            *ring = RingUse { size, most: ring.most.max(waiting) };
        }
    }

    /// Every loss so far, by place and reason.
    fn losses(&self) -> Labels {
        let mut all = self.dropped.lock().map(|dropped| dropped.clone()).unwrap_or_default();
        if let Ok(kernel) = self.kernel.lock() {
            for (name, value) in kernel.iter().filter(|(name, _)| LOSSES.contains(name)) {
                all.insert(("kernel", name), *value);
            }
        }
        if let Ok(totals) = self.totals.lock() {
            all.insert(("assemble", "head_lost"), totals.head_lost);
            all.insert(("assemble", "span_lost"), totals.span_lost);
            all.insert(("assemble", "too_many_heads"), totals.too_many);
            all.insert(("assemble", "malformed_record"), totals.malformed);
            all.insert(("assemble", "no_resource"), totals.no_resource);
        }
        all
    }

    /// One line of what was lost, if anything was since the last time.
    pub fn loss_summary(&self) -> Option<String> {
        let losses = self.losses();
        let sum: u64 = losses.values().sum();
        if self.spoken.swap(sum, Ordering::Relaxed) == sum {
            return None;
        }
        let parts: Vec<String> = losses
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|((place, reason), count)| format!("{place}/{reason}={count}"))
            .collect();
        Some(parts.join(" "))
    }

    /// The text that Prometheus scrapes.
    #[must_use]
    pub fn render(self: &std::sync::Arc<Self>) -> String {
        let mut registry = Registry::with_prefix("spanwire");
        registry.register_collector(Box::new(Snapshot(std::sync::Arc::clone(self))));
        let mut text = String::new();
        let _infallible = encode(&mut text, &registry);
        text
    }

    /// One line for a service manager.
    #[must_use]
    pub fn status(&self) -> String {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let spans = load(&self.server_spans) + load(&self.client_spans);
        format!("Tracing {} processes, {spans} spans so far", self.selected.load(Ordering::Relaxed))
    }

    /// Seconds since the epoch of the last export that succeeded; 0 for none.
    #[must_use]
    pub fn last_export(&self) -> u64 {
        self.last_export.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Snapshot(std::sync::Arc<Metrics>);

impl Snapshot {
    fn counters(
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        values: &[(Vec<(&str, &str)>, u64)],
    ) -> std::fmt::Result {
        let counter = ConstCounter::new(0_u64);
        let mut family = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
        for (labels, value) in values {
            ConstCounter::new(*value).encode(family.encode_family(labels)?)?;
        }
        Ok(())
    }

    fn gauges(
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        values: &[(Vec<(&str, &str)>, u64)],
    ) -> std::fmt::Result {
        let gauge = ConstGauge::new(0_u64);
        let mut family = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
        for (labels, value) in values {
            ConstGauge::new(*value).encode(family.encode_family(labels)?)?;
        }
        Ok(())
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let m = &self.0;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let e = &mut encoder;
        let spans = [
            (vec![("kind", "server")], load(&m.server_spans)),
            (vec![("kind", "client")], load(&m.client_spans)),
        ];
        Self::counters(e, "spans", "Finished spans", &spans)?;
        let dropped: Vec<_> = m
            .losses()
            .into_iter()
            .map(|((place, reason), count)| (vec![("place", place), ("reason", reason)], count))
            .collect();
        Self::counters(e, "dropped", "Spans and events lost", &dropped)?;
        let kernel = m.kernel.lock().map(|kernel| kernel.clone()).unwrap_or_default();
        let refused: Vec<_> = kernel
            .iter()
            .filter_map(|(name, value)| Some((vec![("reason", name.strip_prefix("refused_")?)], *value)))
            .collect();
        Self::counters(e, "refused_links", "Calls that were given no parent", &refused)?;
        let by = |prefix: &'static str| -> Vec<_> {
            let named = kernel.iter().filter_map(|(name, value)| Some((name.strip_prefix(prefix)?, *value)));
            named.map(|(name, value)| (vec![("result", name)], value)).collect()
        };
        Self::counters(
            e,
            "injection",
            "Requests of injecting processes, by what became of the header",
            &by("inject_"),
        )?;
        Self::counters(
            e,
            "claims",
            "Client connections of injecting processes, claimed or not",
            &by("claim_"),
        )?;
        let other: Vec<_> = kernel.iter().map(|(name, value)| (vec![("event", *name)], *value)).collect();
        Self::counters(e, "kernel_events", "Counters of the kernel side", &other)?;
        let requests = [
            (vec![("result", "ok")], load(&m.export_ok)),
            (vec![("result", "failed")], load(&m.export_failed)),
        ];
        Self::counters(e, "export_requests", "Requests to the collector", &requests)?;
        Self::counters(
            e,
            "exported_spans",
            "Spans the collector took",
            &[(vec![("protocol", "otlp")], load(&m.exported_spans))],
        )?;
        let rings = m.rings.lock().map(|mut rings| {
            let now = rings.clone();
            rings.values_mut().for_each(|ring| ring.most = 0);
            now
        });
        let rings = rings.unwrap_or_default();
        let of = |value: fn(&RingUse) -> u64| -> Vec<_> {
            rings.iter().map(|(name, ring)| (vec![("ring", *name)], value(ring))).collect()
        };
        Self::gauges(e, "ring_size_bytes", "Size of a ring from the kernel", &of(|ring| ring.size))?;
        let most = "Most bytes that waited in a ring since the last scrape";
        Self::gauges(e, "ring_waiting_bytes", most, &of(|ring| ring.most))?;
        let gauge = ConstGauge::new(m.selected.load(Ordering::Relaxed));
        let metric =
            e.encode_descriptor("selected_processes", "Processes traced", None, gauge.metric_type())?;
        gauge.encode(metric)?;
        if let Some(cluster) = m.cluster.get() {
            let one = |value| [(Vec::new(), value)];
            let pods = u64::try_from(cluster.len()).unwrap_or(u64::MAX);
            Self::gauges(e, "kubernetes_pods", "Pods of this node that are known", &one(pods))?;
            let help = "Whether the API server is followed";
            Self::gauges(e, "kubernetes_synced", help, &one(cluster.is_synced().into()))?;
            let help = "Times that the API server could not be asked";
            Self::counters(e, "kubernetes_failures", help, &one(cluster.failures()))?;
        }
        let build = ConstGauge::new(1_i64);
        let mut info = e.encode_descriptor("build_info", "Version", None, build.metric_type())?;
        build.encode(info.encode_family(&vec![("version", env!("CARGO_PKG_VERSION"))])?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn losses_are_told_once_and_scraped_always() {
        let metrics = Arc::new(Metrics::default());
        assert_eq!(metrics.loss_summary(), None);
        metrics.dropped("export", "queue_full", 3);
        metrics.set_kernel(vec![("ring_full_span", 2), ("refused_ambiguous", 5)]);
        assert_eq!(metrics.loss_summary().as_deref(), Some("export/queue_full=3 kernel/ring_full_span=2"));
        assert_eq!(metrics.loss_summary(), None);
        let text = metrics.render();
        assert!(text.contains("spanwire_dropped_total{place=\"export\",reason=\"queue_full\"} 3"), "{text}");
        assert!(text.contains("spanwire_refused_links_total{reason=\"ambiguous\"} 5"), "{text}");
    }

    #[test]
    fn the_fullest_moment_of_a_ring_is_told_once() {
        let metrics = Arc::new(Metrics::default());
        metrics.ring("data", 70, 100);
        metrics.ring("data", 30, 100);
        let most = |text: &str| text.contains("spanwire_ring_waiting_bytes{ring=\"data\"} 70");
        assert!(most(&metrics.render()));
        let later = metrics.render();
        assert!(!most(&later) && later.contains("spanwire_ring_size_bytes{ring=\"data\"} 100"), "{later}");
    }
}
