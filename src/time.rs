//! Kernel time to wall-clock time.

use nix::time::{ClockId, clock_gettime};

/// How often the offset is taken again: clocks are set and drift.
const REFRESH_NS: u64 = 10_000_000_000;

fn now(clock: ClockId) -> u64 {
    let Ok(time) = clock_gettime(clock) else { return 0 };
    u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
}

/// `CLOCK_MONOTONIC` in nanoseconds, the clock of all kernel events.
#[must_use]
pub fn monotonic_ns() -> u64 {
    now(ClockId::CLOCK_MONOTONIC)
}

/// The offset between the two clocks, refreshed as time goes by.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    offset: u64,
    taken: u64,
}

impl WallClock {
    /// Takes the offset of now.
    #[must_use]
    pub fn new() -> Self {
        let mut best = (u64::MAX, 0, 0);
        // The narrowest of a few readings: we may be preempted between the clocks.
        for _ in 0..3 {
            let before = monotonic_ns();
            let wall = now(ClockId::CLOCK_REALTIME);
            let after = monotonic_ns();
            let width = after.saturating_sub(before);
            if width < best.0 {
                best = (width, wall.wrapping_sub(before + width / 2), after);
            }
        }
        Self { offset: best.1, taken: best.2 }
    }

    /// With a given offset, for replays.
    #[must_use]
    pub fn fixed(offset: u64) -> Self {
        Self { offset, taken: u64::MAX - REFRESH_NS }
    }

    /// What [`WallClock::fixed`] takes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes the offset again if it is old. `now` is monotonic.
    pub fn refresh(&mut self, now: u64) {
        if now > self.taken.saturating_add(REFRESH_NS) {
            *self = Self::new();
        }
    }

    /// Nanoseconds since the Unix epoch.
    #[must_use]
    pub fn wall(&self, monotonic: u64) -> u64 {
        monotonic.wrapping_add(self.offset)
    }
}

impl Default for WallClock {
    fn default() -> Self {
        Self::new()
    }
}
