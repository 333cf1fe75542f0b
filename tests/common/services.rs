//! Starting and stopping programs: own process group, killed on drop, output in a file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// `count` ports nobody listens on now. All are held until the last is known, so they differ.
pub fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let held: Vec<_> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<io::Result<_>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// Polls `condition` every 20 ms until it holds or `limit` is over.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        sleep(Duration::from_millis(20));
    }
}

/// Where `program` is: an absolute path, or found on PATH and in the directories of daemons.
pub fn which(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Path::new(program).exists().then(|| program.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/go/bin".into()])
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
}

/// A program in its own process group. Dropping it ends the whole group.
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
    exited: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`, its output in `<dir>/<name>.log`.
    ///
    /// It gets SIGTERM when the thread that calls this ends (`setpriv`), so nothing is left behind by a killed run.
    pub fn start(command: &Command, name: &str, dir: &Path) -> io::Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let out = File::create(&log)?;
        let mut wrapped = match which("setpriv") {
            Some(setpriv) => {
                let mut wrapped = Command::new(setpriv);
                wrapped.args(["--pdeathsig", "TERM", "--"]).arg(command.get_program());
                wrapped
            }
            None => Command::new(command.get_program()),
        };
        wrapped.args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(key, value),
                None => wrapped.env_remove(key),
            };
        }
        if let Some(dir) = command.get_current_dir() {
            wrapped.current_dir(dir);
        }
        let child = wrapped
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .process_group(0)
            .spawn()
            .map_err(|e| io::Error::new(e.kind(), format!("{name}: {e}")))?;
        Ok(Self { child, name: name.to_owned(), log, exited: None })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The exit status, once it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.exited.is_none() {
            self.exited = self.child.try_wait().ok().flatten();
        }
        self.exited
    }

    /// Waits until something listens on `port`; an error with the log's end when the program ends or time is over.
    pub fn wait_for_port(&mut self, port: u16, limit: Duration) -> io::Result<()> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut exited = None;
        let up = wait_until(limit, || {
            exited = self.exited();
            exited.is_some() || TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
        });
        match exited {
            None if up => Ok(()),
            Some(status) => {
                Err(io::Error::other(format!("{} ended: {status}\n{}", self.name, self.log_tail())))
            }
            None => Err(io::Error::other(format!(
                "{} does not listen on {port} after {limit:?}\n{}",
                self.name,
                self.log_tail()
            ))),
        }
    }

    /// Everything it printed.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    /// The last 2 KiB it printed.
    pub fn log_tail(&self) -> String {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(&self.log)?;
            let len = file.metadata()?.len();
            file.seek(SeekFrom::Start(len.saturating_sub(2048)))?;
            let mut tail = Vec::new();
            file.take(2048).read_to_end(&mut tail)?;
            Ok(tail)
        };
        String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
    }

    /// CPU seconds used and the peak resident KiB so far, of the process alone.
    pub fn usage(&self) -> Option<(f64, u64)> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).ok()?;
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let peak = peak.split_whitespace().next()?.parse().ok()?;
        Some((ticks as f64 / 100.0, peak)) // USER_HZ is 100 on every architecture we build for
    }

    /// SIGTERM to the group, up to `limit` for the program to end, then SIGKILL to what is left of the group.
    pub fn stop(&mut self, limit: Duration) -> Option<ExitStatus> {
        let group = Pid::from_raw(self.pid() as i32);
        if self.exited().is_none() {
            let _ = killpg(group, Signal::SIGTERM);
            wait_until(limit, || self.exited().is_some());
        }
        // Also after a clean exit: workers may outlive their master. The group id cannot have been reused while a
        // member lives, and an empty group gives ESRCH.
        let _ = killpg(group, Signal::SIGKILL);
        if self.exited.is_none() {
            self.exited = self.child.wait().ok();
        }
        self.exited
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop(Duration::from_secs(3));
    }
}
