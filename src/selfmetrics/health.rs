//! Whether the threads of the pipeline are alive, for probes.
//!
//! A collector that is away is no illness: starting us again would not bring it back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A thread that says nothing for so long is stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// A thread whose life is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reads the ring of spans.
    Data,
    /// Reads the ring of process events.
    Control,
    /// Makes spans.
    Assemble,
}

const STAGES: [(Stage, &str); 3] =
    [(Stage::Data, "rb-data"), (Stage::Control, "rb-ctl"), (Stage::Assemble, "assemble")];

/// When each stage went round last.
#[derive(Clone, Debug)]
pub struct Health {
    begun: Instant,
    rounds: Arc<[AtomicU64; 3]>,
}

impl Default for Health {
    fn default() -> Self {
        Self { begun: Instant::now(), rounds: Arc::default() }
    }
}

impl Health {
    fn now(&self) -> u64 {
        self.begun.elapsed().as_secs()
    }

    /// `stage` went round once more.
    pub fn beat(&self, stage: Stage) {
        if let Some(round) = self.rounds.get(stage as usize) {
            round.store(self.now(), Ordering::Relaxed);
        }
    }

    /// Since the start.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Names of the threads that are stuck.
    #[must_use]
    pub fn stuck(&self) -> Vec<&'static str> {
        self.stuck_at(self.now())
    }

    fn stuck_at(&self, now: u64) -> Vec<&'static str> {
        let late = |stage: &Stage| {
            let last = self.rounds.get(*stage as usize).map_or(0, |round| round.load(Ordering::Relaxed));
            now.saturating_sub(last) > PATIENCE.as_secs()
        };
        STAGES.iter().filter(|(stage, _)| late(stage)).map(|(_, name)| *name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_thread_is_named() {
        let health = Health::default();
        assert_eq!(health.stuck_at(30), Vec::<&str>::new());
        health.beat(Stage::Assemble);
        health.rounds[Stage::Data as usize].store(10, Ordering::Relaxed);
        assert_eq!(health.stuck_at(31), ["rb-ctl", "assemble"]);
        assert_eq!(health.stuck_at(41), ["rb-data", "rb-ctl", "assemble"]);
    }
}
