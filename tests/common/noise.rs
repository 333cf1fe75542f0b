//! What a busy machine does to programs, on purpose: they stand still, change their CPU and wait behind others.
//!
//! Orders of events that a quiet machine shows once in a thousand runs come all the time then.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn, yield_now};
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Ends when dropped; then everything runs again, and everywhere.
pub struct Noise {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Noise {
    /// To the processes `roots` and what they started.
    pub fn start(roots: Vec<u32>) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        let mine = Arc::clone(&ended);
        threads.push(spawn(move || {
            while !mine.load(Ordering::Relaxed) {
                one_of_them_waits(&roots);
                one_of_its_threads_moves(&roots);
                sleep(Duration::from_micros(fastrand::u64(0..20_000)));
            }
            for pid in family(&roots) {
                for task in threads_of(pid) {
                    move_to(task, 0..cpus());
                }
            }
        }));
        for _ in 0..2 {
            let mine = Arc::clone(&ended);
            threads.push(spawn(move || {
                while !mine.load(Ordering::Relaxed) {
                    for _ in 0..fastrand::u32(0..2_000_000) {
                        std::hint::spin_loop();
                    }
                    yield_now();
                    sleep(Duration::from_micros(fastrand::u64(0..3_000)));
                }
            }));
        }
        Self { ended, threads }
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn one_of_them_waits(roots: &[u32]) {
    if let Some(pid) = fastrand::choice(family(roots)) {
        let pid = Pid::from_raw(pid as i32);
        if kill(pid, Signal::SIGSTOP).is_ok() {
            sleep(Duration::from_micros(fastrand::u64(200..20_000)));
            let _ = kill(pid, Signal::SIGCONT);
        }
    }
}

fn one_of_its_threads_moves(roots: &[u32]) {
    if let Some(pid) = fastrand::choice(family(roots))
        && let Some(task) = fastrand::choice(threads_of(pid))
    {
        let cpu = fastrand::usize(0..cpus());
        move_to(task, if fastrand::bool() { cpu..cpu + 1 } else { 0..cpus() });
    }
}

/// `roots` and all below them.
fn family(roots: &[u32]) -> Vec<u32> {
    let mut below: HashMap<u32, Vec<u32>> = HashMap::new();
    for process in procfs::process::all_processes().into_iter().flatten().flatten() {
        if let Ok(stat) = process.stat() {
            below.entry(stat.ppid as u32).or_default().push(stat.pid as u32);
        }
    }
    let mut all = roots.to_vec();
    let mut at = 0;
    while at < all.len() {
        all.extend(below.remove(&all[at]).unwrap_or_default());
        at += 1;
    }
    all
}

fn threads_of(pid: u32) -> Vec<u32> {
    std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn move_to(task: u32, cpus: std::ops::Range<usize>) {
    let mut set = CpuSet::new();
    for cpu in cpus {
        let _ = set.set(cpu);
    }
    let _ = sched_setaffinity(Pid::from_raw(task as i32), &set);
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
