//! `spanwire run`.

use std::collections::HashSet;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};

use super::args::Run;
use super::notify;
use crate::bpf::{Control, LoadError, LoadOptions, RuntimeProbes, Tier, Tracer};
use crate::config::{Config, Loaded, MetricsExporter, Sources, TierName, load};
use crate::enrich::{Labels, Naming};
use crate::event::Writer;
use crate::export::{Exporter, Printer};
use crate::kube::{self, Cluster, Watch};
use crate::logging;
use crate::pipeline::{Parts, Pipeline, Recorder, spawn};
use crate::proc::{Discovery, Listeners, Places, Rules, Waits};
use crate::propagation::{self, Propagation};
use crate::runtime::Runtimes;
use crate::selfmetrics::{Metrics, serve};
use crate::span::{Span, SpanKind};
use crate::time::WallClock;

/// How often counters are read and losses told.
const HOUSEKEEPING: Duration = Duration::from_secs(2);
const TELL_LOSSES: u32 = 15;

fn rules(config: &Config) -> Rules {
    let mut exclude = config.discovery.exclude_instrument.clone();
    exclude.extend(config.discovery.default_exclude_instrument.0.iter().cloned());
    Rules { instrument: config.selectors(), exclude }
}

fn load_options(config: &Config) -> LoadOptions {
    LoadOptions {
        tier: match config.spanwire.tier {
            TierName::Auto => None,
            TierName::A => Some(Tier::A),
            TierName::B => Some(Tier::B),
            TierName::C => Some(Tier::C),
        },
        sampling: config.sampling().0,
        join: !config.ebpf.disable_black_box_cp,
        random_flag: config.spanwire.random_flag,
        worker_threads: config.spanwire.jvm_worker_threads.clone(),
        ring_size: config.spanwire.ring_size,
    }
}

/// Traces until a signal, or until the command ends.
pub(super) fn run(loaded: Loaded, flags: &Run) -> Result<ExitCode> {
    let config = loaded.config;
    logging::init(config.log_level, config.log_format);
    if let Err(error) = config.validate(!flags.command.is_empty()) {
        eprintln!("spanwire: {error}");
        return Ok(ExitCode::from(2));
    }
    for warning in loaded.warnings.iter().chain(&config.sampling().1) {
        warn!("{warning}");
    }
    // By other numbers it would trace other processes, under the names of these.
    if let Some(why) = super::check::foreign_pids() {
        anyhow::bail!("{why}");
    }
    let missing = super::check::missing_capabilities(config.wants_headers_somewhere());
    if config.enforce_sys_caps && !missing.is_empty() {
        let list = missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        anyhow::bail!("missing capabilities: {list}; `spanwire check` tells more");
    }
    for need in missing {
        warn!(missing = %need, off = need.off, "A capability is missing.");
    }

    crate::bpf::few_arenas();
    let metrics = Arc::new(Metrics::default());
    let mut tracer = Tracer::load(&load_options(&config)).map_err(explain)?;
    info!(tier = tracer.tier.as_str(), "The kernel side runs.");
    let control = tracer.control();
    // Listeners that are older than the hooks; newer ones tell of themselves.
    let listeners = Listeners::of_host();
    for (netns, port) in listeners.ports() {
        control.add_listener(netns, port).context("telling the kernel side of a listener")?;
    }

    let naming = Naming::new(
        config.service_name.clone(),
        config.service_namespace.clone(),
        config.resource_attributes.as_deref(),
        Labels::new(&config.attributes.kubernetes),
    );
    let rules = rules(&config);
    let cluster = super::cluster::settings(&config).map(|settings| (settings, Cluster::default()));
    if let Some((_, cluster)) = &cluster {
        metrics.set_cluster(cluster.clone());
    }
    let places = Places::new(cluster.as_ref().map(|(_, cluster)| cluster.clone()));
    let mut discovery = Discovery::new(rules, naming, places, control.clone());
    let mut injection = Injecting::default();
    injection.apply(&config, &tracer, &mut discovery);
    let probes = RuntimeProbes::new(&tracer).context("the maps of runtime probes")?;
    discovery.set_runtimes(Runtimes::new(probes));
    discovery.probe_runtimes(config.spanwire.runtime_probes);
    if tracer.tier == Tier::C {
        discovery.set_waits(Waits::new(control.clone()));
    }
    let selection = discovery.selection();
    discovery.scan(listeners);
    let discovery = Arc::new(Mutex::new(discovery));
    let watch = cluster.map(|(settings, cluster)| watch(settings, cluster, &discovery)).transpose()?;

    let (exporter, queue) = match config.export()? {
        Some(settings) => {
            info!(endpoint = %settings.endpoint, protocol = ?settings.protocol, "Exporting.");
            if settings.insecure_skip_verify {
                warn!(
                    "otel_traces_export.insecure_skip_verify: whoever can redirect the connection gets spans and headers."
                );
            }
            let (exporter, queue) = Exporter::start(settings, Arc::clone(&metrics))?;
            (Some(exporter), Some(queue))
        }
        None => (None, None),
    };
    let printer = config.printer().map(|format| {
        let colour = std::io::stdout().is_terminal();
        Arc::new(Mutex::new(Printer::new(format, colour, Box::new(std::io::stdout()))))
    });
    serve_metrics(&config, &metrics, &control)?;

    let sink_metrics = Arc::clone(&metrics);
    let sink_printer = printer.clone();
    let sink = move |spans: Vec<Span>| {
        for span in &spans {
            sink_metrics.span(span.kind == SpanKind::Server);
        }
        if let Some(printer) = &sink_printer
            && let Ok(mut printer) = printer.lock()
        {
            printer.print(&spans);
        }
        if let Some(queue) = &queue {
            queue.push(spans);
        }
    };
    let totals_metrics = Arc::clone(&metrics);
    let names = Arc::clone(&selection);
    let events = Arc::clone(&discovery);
    let pipeline = Pipeline::start(Parts {
        data: tracer.data_ring().try_into()?,
        ctl: tracer.ctl_ring().try_into()?,
        control: control.clone(),
        resources: Arc::new(move |pid, patience| names.lock().ok()?.resource(pid, patience)),
        sink: Box::new(sink),
        totals: Box::new(move |totals| totals_metrics.set_totals(totals)),
        on_process: Box::new(move |event| {
            if let Ok(mut discovery) = events.lock() {
                discovery.on_event(event);
            }
        }),
        max_transaction_time: config.ebpf.max_transaction_time.0,
        metrics: Arc::clone(&metrics),
        record: recorder(flags)?,
    })?;

    let stopping = Arc::new(AtomicBool::new(false));
    let keeper = {
        let (metrics, control, stopping) = (Arc::clone(&metrics), control.clone(), Arc::clone(&stopping));
        let (selection, printer) = (Arc::clone(&selection), printer.clone());
        let discovery = Arc::clone(&discovery);
        // Twice in the time that it is given.
        let watchdog = notify::watchdog().map(|within| within / 2);
        spawn("housekeeping", move || {
            let mut round = 0_u32;
            let mut next = Instant::now();
            let mut alive = Instant::now();
            while !stopping.load(Ordering::Acquire) {
                if let Some(printer) = &printer
                    && let Ok(mut printer) = printer.lock()
                {
                    printer.tick(false);
                }
                // Who has it may have much to do; the next round is soon.
                if let Ok(mut discovery) = discovery.try_lock() {
                    discovery.tick();
                }
                if let Some(every) = watchdog
                    && Instant::now() >= alive
                    && metrics.health.stuck().is_empty()
                {
                    notify::alive(&metrics.status());
                    alive += every;
                }
                if Instant::now() >= next {
                    metrics.set_kernel(control.counters());
                    metrics.set_selected(selection.lock().map_or(0, |selection| selection.len()));
                    if round.is_multiple_of(TELL_LOSSES) {
                        tell_losses(&metrics);
                    }
                    round += 1;
                    next += HOUSEKEEPING;
                }
                thread::sleep(Duration::from_millis(100));
            }
        })?
    };

    crate::bpf::started();
    let status = wait(flags, &discovery, |config, discovery| {
        injection.apply(config, &tracer, discovery);
        discovery.probe_runtimes(config.spanwire.runtime_probes);
    })?;

    // Nothing new is seen from here on; what was seen leaves in the order of the pipeline.
    let deadline = Instant::now() + config.shutdown_timeout.0.0;
    drop((watch, injection));
    tracer.detach();
    for late in pipeline.stop(deadline) {
        error!(thread = %late, "A thread did not end in time.");
    }
    if let Some(exporter) = exporter {
        exporter.finish(deadline);
    }
    stopping.store(true, Ordering::Release);
    let _panics_exit = keeper.join();
    if let Some(printer) = &printer
        && let Ok(mut printer) = printer.lock()
    {
        printer.tick(true);
    }
    metrics.set_kernel(control.counters());
    tell_losses(&metrics);
    Ok(status)
}

fn watch(settings: kube::Settings, cluster: Cluster, discovery: &Arc<Mutex<Discovery>>) -> Result<Watch> {
    let discovery = Arc::clone(discovery);
    let on_pods = move |uids: &HashSet<Box<str>>| {
        if let Ok(mut discovery) = discovery.lock() {
            discovery.on_pods(uids);
        }
    };
    Watch::start(settings, cluster, Box::new(on_pods))
}

/// Writing of headers, started when a configuration asks for it first.
#[derive(Default)]
struct Injecting(Option<(Propagation, propagation::Running)>);

impl Injecting {
    fn apply(&mut self, config: &Config, tracer: &Tracer, discovery: &mut Discovery) {
        if self.0.is_none() && config.wants_headers_somewhere() {
            match propagation::start(tracer, &load_options(config), config.spanwire.claim) {
                Ok(started) => self.0 = Some(started),
                Err(reason) => warn!(%reason, "No context is written into requests."),
            }
        }
        if let Some((_, running)) = &self.0
            && let Err(error) = running.deny(&config.spanwire.never_write_to.0)
        {
            error!(%error, "spanwire.never_write_to cannot be told to the kernel side: nothing is written anywhere.");
            self.0 = None;
        }
        discovery.set_propagation(self.0.as_ref().map(|(handle, _)| handle.clone()), config.wants_headers());
    }
}

fn tell_losses(metrics: &Metrics) {
    if let Some(losses) = metrics.loss_summary() {
        warn!(%losses, "Something was lost.");
    }
}

fn explain(error: LoadError) -> anyhow::Error {
    let root = nix::unistd::geteuid().is_root();
    let hint = if root {
        "`spanwire check` tells what this host lacks"
    } else {
        "run it as root, or see `spanwire check`"
    };
    anyhow::anyhow!("{error}\n{hint}")
}

fn serve_metrics(config: &Config, metrics: &Arc<Metrics>, control: &Control) -> Result<()> {
    let mut ports = Vec::new();
    if config.internal_metrics.exporter == MetricsExporter::Prometheus
        || config.internal_metrics.prometheus.port != 0
    {
        ports.push(config.internal_metrics.prometheus.port);
    }
    if config.health_check.port != 0 && !ports.contains(&config.health_check.port) {
        ports.push(config.health_check.port);
    }
    let ip =
        config.health_check.listen_address.parse().with_context(|| {
            format!("health_check.listen_address `{}`", config.health_check.listen_address)
        })?;
    for port in ports {
        let path = config.internal_metrics.prometheus.path.clone();
        let (read, write) = (control.clone(), Arc::clone(metrics));
        let refresh = move || write.set_kernel(read.counters());
        let bound = serve(SocketAddr::new(ip, port), path, Arc::clone(metrics), refresh)?;
        info!(address = %bound, "Metrics and health.");
    }
    Ok(())
}

/// For `spanwire replay`.
fn recorder(flags: &Run) -> Result<Option<Recorder>> {
    let Some(path) = &flags.record else { return Ok(None) };
    let file = std::fs::File::create(path).with_context(|| format!("creating {}", path.display()))?;
    let file = std::io::BufWriter::new(file);
    let mut writer = Writer::new(file, WallClock::new().offset())?;
    Ok(Some(Box::new(move |record| {
        let _disk_full = writer.push(record);
    })))
}

/// Starts the command, if there is one, so that its first system call is traced.
fn start(flags: &Run, discovery: &Mutex<Discovery>) -> Result<Option<Child>> {
    let Some((program, args)) = flags.command.split_first() else { return Ok(None) };
    // A shell that waits for a line, then becomes the command: it is selected in between.
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg("read -r _ <&3 && exec 3<&- && exec \"$0\" \"$@\"")
        .arg(program)
        .args(args)
        .gated()
        .with_context(|| format!("starting {}", program.to_string_lossy()))?;
    if let Ok(mut discovery) = discovery.lock() {
        discovery.follow(child.child.id());
    }
    child.open().context("letting the command go")?;
    Ok(Some(child.child))
}

/// A child that waits on descriptor 3.
struct Gated {
    child: Child,
    gate: std::io::PipeWriter,
}

impl Gated {
    fn open(&mut self) -> std::io::Result<()> {
        self.gate.write_all(b"\n")
    }
}

trait Gate {
    fn gated(&mut self) -> Result<Gated>;
}

impl Gate for Command {
    fn gated(&mut self) -> Result<Gated> {
        let (reader, gate) = std::io::pipe()?;
        let child = crate::bpf::spawn_with_fd3(self, &reader)?;
        Ok(Gated { child, gate })
    }
}

/// Waits for a signal or for the command's end; the status to exit with.
fn wait(
    flags: &Run,
    discovery: &Mutex<Discovery>,
    mut apply: impl FnMut(&Config, &mut Discovery),
) -> Result<ExitCode> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGCHLD]).context("handling signals")?;
    let mut child = start(flags, discovery)?;
    if child.is_none() {
        info!("Ready.");
    }
    notify::ready("Tracing");
    for signal in signals.forever() {
        match signal {
            SIGHUP => {
                notify::reloading();
                let status = reload(flags, discovery, &mut apply);
                notify::ready(status);
            }
            SIGCHLD => {
                let Some(running) = &mut child else { continue };
                if let Some(status) = running.try_wait().context("waiting for the command")? {
                    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
                    return Ok(ExitCode::from(u8::try_from(code).unwrap_or(255)));
                }
            }
            signal => {
                if let Some(running) = &mut child {
                    // Passed on: the command ends first, then we do, with its status.
                    let pid = Pid::from_raw(i32::try_from(running.id()).unwrap_or(0));
                    let _gone = Signal::try_from(signal).map(|signal| kill(pid, signal));
                    continue;
                }
                info!("Stopping.");
                notify::stopping();
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What became of it, in a word for the service manager.
fn reload(
    flags: &Run,
    discovery: &Mutex<Discovery>,
    apply: &mut impl FnMut(&Config, &mut Discovery),
) -> &'static str {
    let env = std::env::vars().collect();
    let sources = Sources { file: flags.config.clone(), env, flags: flags.flags() };
    let loaded = load(&sources).and_then(|loaded| {
        loaded.config.validate(!flags.command.is_empty())?;
        Ok(loaded)
    });
    match loaded {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                warn!("{warning}");
            }
            if let Ok(mut discovery) = discovery.lock() {
                apply(&loaded.config, &mut discovery);
                discovery.reload(rules(&loaded.config));
            }
            info!("The selection was reloaded.");
            "Tracing"
        }
        Err(error) => {
            error!(%error, "The new configuration is wrong; the old one stays.");
            "Tracing by the old configuration: the new one is wrong"
        }
    }
}
