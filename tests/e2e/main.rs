//! End to end: real servers in a chain of three hops, real calls of their own in the background, spanwire on them, an OTLP
//! receiver, and an exact count of what arrived. See `--help`.

#[path = "../common/mod.rs"]
mod common;
mod receivers;
mod scenarios;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use common::eval::{About, Expected, Kind, Report, evaluate};
use common::load::{self, Connections, Outcome, Plan, Wire};
use common::noise::Noise;
use common::otlp_sink::Sink;
use common::services::{Process, free_ports, wait_until};
use scenarios::{Class, Scenario};

const HELP: &str = "\
usage: cargo test --test e2e -- [OPTION]... [NAME]...

Runs the scenarios whose name contains one of NAME, else all.

  --list              names of the scenarios
  --bare              the services alone, without spanwire: needs no root
  --concurrency LIST  levels, default 1,8,64
  --connections HOW   kept, once or both (default): the load's connections
  --long              ten times the requests
  --noise             the services and spanwire stand still and change their CPU at random meanwhile
  --bin PATH          the spanwire to test (also SPANWIRE_BIN), default the one cargo built
  --out FILE          also write the table there
";

/// Requests per level of a quick run.
fn requests(concurrency: usize) -> usize {
    match concurrency {
        0..=1 => 200,
        2..=8 => 400,
        _ => 800,
    }
}

pub struct Options {
    filters: Vec<String>,
    list: bool,
    pub bare: bool,
    levels: Vec<usize>,
    connections: Connections,
    long: bool,
    noise: bool,
    pub bin: PathBuf,
    out: Option<PathBuf>,
}

fn options() -> Result<Option<Options>, String> {
    let mut options = Options {
        filters: Vec::new(),
        list: false,
        bare: false,
        levels: vec![1, 8, 64],
        connections: Connections::Both,
        long: false,
        noise: false,
        bin: std::env::var_os("SPANWIRE_BIN")
            .map_or_else(|| env!("CARGO_BIN_EXE_spanwire").into(), PathBuf::from),
        out: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--help" | "-h" => return Ok(None),
            "--list" => options.list = true,
            "--bare" => options.bare = true,
            "--long" => options.long = true,
            "--noise" => options.noise = true,
            "--bin" => options.bin = value()?.into(),
            "--out" => options.out = Some(value()?.into()),
            "--connections" => {
                options.connections = match value()?.as_str() {
                    "kept" => Connections::Kept,
                    "once" => Connections::Once,
                    "both" => Connections::Both,
                    other => return Err(format!("--connections takes kept, once or both, not {other}")),
                };
            }
            "--concurrency" => {
                options.levels = value()?
                    .split(',')
                    .map(|level| level.parse().ok().filter(|n| (1..=512).contains(n)))
                    .collect::<Option<_>>()
                    .ok_or("--concurrency takes numbers from 1 to 512")?;
            }
            // What cargo test hands to every test binary.
            "--nocapture" | "--no-capture" | "--quiet" | "-q" | "--ignored" | "--include-ignored"
            | "--exact" => {}
            _ if arg.starts_with("--test-threads")
                || arg.starts_with("--format")
                || arg.starts_with("--color") => {}
            _ if arg.starts_with('-') => return Err(format!("unknown option {arg}\n\n{HELP}")),
            _ => options.filters.push(arg),
        }
    }
    Ok(Some(options))
}

/// One line of the table.
struct Row {
    scenario: String,
    concurrency: usize,
    outcome: Outcome,
    report: Option<Report>,
    failures: Vec<String>,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(e) => {
            eprintln!("e2e: {e}");
            return ExitCode::from(2);
        }
    };
    let chosen =
        |name: &str| options.filters.is_empty() || options.filters.iter().any(|part| name.contains(part));
    let scenarios: Vec<_> = scenarios::all().into_iter().filter(|s| chosen(s.name)).collect();
    let receivers: Vec<_> = receivers::NAMES.into_iter().filter(|name| chosen(name)).collect();
    if options.list {
        scenarios.iter().map(|s| s.name).chain(receivers).for_each(|name| println!("{name}"));
        return ExitCode::SUCCESS;
    }
    if scenarios.is_empty() && receivers.is_empty() {
        eprintln!("e2e: no scenario has a name like {:?}; see --list", options.filters);
        return ExitCode::from(2);
    }

    let started = Instant::now();
    let (mut rows, mut notes, mut skips, mut failures) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let no_root = (!options.bare && !nix::unistd::geteuid().is_root()).then(|| "needs root".to_owned());
    for scenario in &scenarios {
        if let Some(reason) = no_root.clone().or_else(|| scenario.missing()) {
            println!("skip {}: {reason}", scenario.name);
            skips.push(scenario.name);
            continue;
        }
        match run(scenario, &options) {
            Ok((new, note)) => {
                rows.extend(new);
                notes.extend(note.map(|note| format!("{}: {note}", scenario.name)));
            }
            Err(e) => {
                println!("FAIL {}: {e}", scenario.name);
                failures.push(format!("{}: {}", scenario.name, e.lines().next().unwrap_or("")));
            }
        }
    }
    for name in receivers {
        if let Some(reason) = no_root.clone().or_else(|| receivers::missing(name)) {
            println!("skip {name}: {reason}");
            skips.push(name);
            continue;
        }
        match receivers::run(name, &options) {
            Ok(note) => println!("ok   {name}: {note}"),
            Err(e) => {
                println!("FAIL {name}: {e}");
                failures.push(format!("{name}: {}", e.lines().next().unwrap_or("")));
            }
        }
    }

    let table = table(&rows);
    print!("\n{table}");
    for note in notes {
        println!("{note}");
    }
    if let Some(out) = &options.out
        && let Err(e) = fs::write(out, &table)
    {
        failures.push(format!("{}: {e}", out.display()));
    }
    for row in &rows {
        failures.extend(row.failures.iter().map(|f| format!("{} at {}: {f}", row.scenario, row.concurrency)));
    }
    println!(
        "\n{} levels, {} failures, {} skipped, {:.0} s",
        rows.len(),
        failures.len(),
        skips.len(),
        started.elapsed().as_secs_f64()
    );
    for failure in &failures {
        println!("  FAIL {failure}");
    }
    ExitCode::from(u8::from(!failures.is_empty()))
}

/// A directory that services running as another user may enter.
pub fn work_dir() -> io::Result<tempfile::TempDir> {
    let dir = tempfile::Builder::new().prefix("spanwire-e2e-").tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    Ok(dir)
}

/// `spanwire run` on the ports of a chain.
pub fn spanwire(
    options: &Options,
    dir: &Path,
    ports: &[u16],
    also_exe: &[&str],
    protocol: &str,
    endpoint_port: u16,
    environment: &[(&str, &str)],
) -> io::Result<Process> {
    let ports = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
    let endpoint = format!("http://127.0.0.1:{endpoint_port}");
    let mut command = Command::new(&options.bin);
    command.args(["run", "--endpoint", &endpoint, "--protocol", protocol]);
    if also_exe.is_empty() {
        command.args(["--port", &ports]);
    } else {
        // Either of them selects: two entries, which flags cannot say.
        let mut yaml = format!("discovery:\n  instrument:\n    - open_ports: \"{ports}\"\n");
        for glob in also_exe {
            let _ = writeln!(yaml, "    - exe_path: \"{glob}\"");
        }
        let file = dir.join("spanwire.yaml");
        fs::write(&file, yaml)?;
        command.arg("--config").arg(file);
    }
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        if name.starts_with("OTEL_") || name.starts_with("BEYLA_") {
            command.env_remove(&key);
        }
    }
    command.envs(environment.iter().copied());
    Process::start(&command, "spanwire", dir)
}

/// Sends `/warm/<n>` until a server span of every hop has come.
fn warm_up(wire: Wire, sink: &Sink, ports: &[u16], spanwire: &mut Process) -> Result<(), String> {
    let started = Instant::now();
    // In a guest of emulated CPUs everything takes longer.
    let limit = scenarios::start_limit(15);
    for n in 0.. {
        load::warm(wire, ports[0], n);
        let seen = ports
            .iter()
            .filter(|port| {
                sink.count(0, |span| {
                    span.kind == Kind::Server && span.port == **port && span.path.contains("/warm")
                }) > 0
            })
            .count();
        if seen == ports.len() {
            return Ok(());
        }
        if let Some(status) = spanwire.exited() {
            return Err(format!("spanwire ended while warming up: {status}\n{}", spanwire.log_tail()));
        }
        if started.elapsed() > limit {
            return Err(format!(
                "server spans of only {seen} of {} hops within {limit:?}; {} spans in all\n{}",
                ports.len(),
                sink.len(),
                spanwire.log_tail()
            ));
        }
        sleep(Duration::from_millis(50));
    }
    unreachable!("numbers end later than any limit")
}

/// Seconds from `began` until the log says so: what comes later is for the services to answer.
fn ready_after(log: &str, began: SystemTime) -> Option<f64> {
    let line = log.lines().find(|line| line.ends_with(" Ready."))?;
    let time = line.split_once('T')?.1.split_once('Z')?.0;
    let at = time.split(':').try_fold(0.0, |sum, part| Some(sum * 60.0 + part.parse::<f64>().ok()?))?;
    let began = began.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs_f64();
    Some((at - began).rem_euclid(86_400.0))
}

fn run(scenario: &Scenario, options: &Options) -> Result<(Vec<Row>, Option<String>), String> {
    let text = |e: io::Error| e.to_string();
    let dir = work_dir().map_err(text)?;
    let ports = free_ports(3).map_err(text)?;
    let mut services = scenario.start(&ports, dir.path()).map_err(text)?;
    let sink = Sink::start().map_err(text)?;
    let mut tracer = None;
    let mut first = None;
    let began = SystemTime::now();
    if !options.bare {
        let (protocol, port) =
            if scenario.http_export { ("http/protobuf", sink.http_port) } else { ("grpc", sink.grpc_port) };
        let started = Instant::now();
        let process =
            spanwire(options, dir.path(), &ports, scenario.also_exe, protocol, port, &[]).map_err(text)?;
        let process = tracer.insert(process);
        warm_up(scenario.wire, &sink, &ports, process)?;
        first = sink.first_arrival().map(|first| first - started);
        if scenario.class == Class::Workers {
            // Its threads are believed to serve what they read when they have answered some.
            (0..64).for_each(|n| load::warm(scenario.wire, ports[0], n));
        }
        // A process is linked by its only open request once it has been seen idle for half a second.
        std::thread::sleep(Duration::from_millis(600));
    }

    let demand = Demand { noise: options.noise, whole: scenario.class != Class::Loop };
    let mut rows = Vec::new();
    for concurrency in &options.levels {
        let many = if options.long { 10 } else { 1 };
        let from = sink.len();
        let plan = Plan {
            port: ports[0],
            wire: scenario.wire,
            tag: format!("{}-{concurrency}", scenario.name),
            requests: (requests(*concurrency) * many * scenario.percent / 100).max(20),
            concurrency: *concurrency,
            traceparent: scenario.traceparent,
            connections: options.connections,
            limit: Duration::from_secs(if options.long { 300 } else { 60 }),
        };
        let noise =
            options.noise.then(|| Noise::start(services.iter().chain(&tracer).map(Process::pid).collect()));
        let outcome = load::run(&plan);
        drop(noise);
        let mut failures: Vec<_> = services
            .iter_mut()
            .filter_map(|service| {
                service.exited().map(|status| format!("{} ended: {status}", service.name()))
            })
            .collect();
        if let Some((id, e)) = outcome.errors.first() {
            failures.push(format!("{} application errors, first {id}: {e}", outcome.errors.len()));
        }
        let mut report = None;
        if let Some(process) = &mut tracer {
            let (counted, wrong) = judge(scenario, &demand, &plan, &outcome, &sink, &ports, from);
            report = Some(counted);
            failures.extend(wrong);
            if let Some(status) = process.exited() {
                failures.push(format!("spanwire ended: {status}"));
            }
            if !failures.is_empty() {
                println!("--- spanwire, the end of its log:\n{}---", process.log_tail());
            }
        }
        let row =
            Row { scenario: scenario.name.to_owned(), concurrency: *concurrency, outcome, report, failures };
        println!("{}", line(&row));
        for failure in &row.failures {
            println!("     {failure}");
        }
        rows.push(row);
    }

    let note = tracer.map(|mut process| {
        let usage = process.usage();
        let status = process.stop(Duration::from_secs(10));
        let log = process.log();
        let last = rows.last_mut().expect("at least one level");
        if !status.is_some_and(|status| status.success()) {
            last.failures.push(format!("spanwire did not end well on SIGTERM: {status:?}"));
        }
        if log.contains("panicked") {
            last.failures.push("spanwire panicked".into());
        }
        let (cpu, peak) = usage.unwrap_or_default();
        let warnings: Vec<_> =
            log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).collect();
        let warned = warnings.last().map(|last| format!("; {} warnings, last: {last}", warnings.len()));
        format!(
            "first span after {:.2} s (ready after {:.2}), {} spans, spanwire used {cpu:.2} s of CPU and {:.1} MiB at most{}",
            first.unwrap_or_default().as_secs_f64(),
            ready_after(&log, began).unwrap_or_default(),
            sink.len(),
            peak as f64 / 1024.0,
            warned.unwrap_or_default()
        )
    });
    Ok((rows, note))
}

/// What is asked of a scenario.
struct Demand {
    noise: bool,
    /// Every trace is complete.
    whole: bool,
}

/// Waits for the spans of the level and holds them against what is demanded.
fn judge(
    scenario: &Scenario,
    asked: &Demand,
    plan: &Plan,
    outcome: &Outcome,
    sink: &Sink,
    ports: &[u16],
    from: usize,
) -> (Report, Vec<String>) {
    let mut failures = Vec::new();
    let prefix = plan.wire.path(&format!("{}-", plan.tag));
    let wanted = outcome.answered.len() * 5;
    let (mut seen, mut since) = (0, Instant::now());
    // All are there, or nothing new for 3 s. Background calls go on meanwhile.
    wait_until(Duration::from_secs(15), || {
        let now = sink.count(from, |span| span.path.starts_with(&prefix));
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        now >= wanted || since.elapsed() > Duration::from_secs(3)
    });
    // What came twice, or should not have come, may come a little later.
    sleep(Duration::from_millis(300));

    let remote = |id: &String| {
        let n = id.rsplit_once('-').and_then(|(_, n)| n.parse().ok())?;
        load::carries(plan, n).then(|| load::remote_parent(id))
    };
    let requests: BTreeMap<_, _> = outcome.answered.iter().map(|id| (id.clone(), remote(id))).collect();
    let expected = Expected { chain: ports.to_vec(), requests, grpc: plan.wire == Wire::Grpc };
    let spans = sink.spans();
    let report = evaluate(&spans, from, &expected);

    let mut demand = |holds: bool, what: String| {
        if !holds {
            failures.push(what);
        }
    };
    let first = |list: &[String]| list.first().cloned().unwrap_or_default();
    demand(
        report.wrong.is_empty(),
        format!("{} wrong links, first: {}", report.wrong.len(), first(&report.wrong)),
    );
    demand(report.duplicates == 0, format!("{} duplicates", report.duplicates));
    demand(
        report.unexpected.is_empty(),
        format!("{} unexpected spans, first: {}", report.unexpected.len(), first(&report.unexpected)),
    );
    demand(
        report.faulty.is_empty(),
        format!("{} spans say something wrong, first: {}", report.faulty.len(), first(&report.faulty)),
    );
    // With a process for each request, one may have ended before spanwire, which stood still, has looked at it.
    let brief = asked.noise && !scenario.also_exe.is_empty();
    let least = if brief { 0.9 } else { 0.99 };
    if brief {
        demand(report.unlinked == 0, format!("{} calls without a parent", report.unlinked));
    } else if asked.whole {
        demand(
            report.complete == report.requests,
            format!(
                "{} of {} traces are not complete, {} of them on kept-alive connections, first {} ({} unlinked, {} dangling, {} spans missing)",
                report.incomplete.len(),
                report.requests,
                report.incomplete.iter().filter(|id| outcome.kept.contains(*id)).count(),
                first(&report.incomplete),
                report.unlinked,
                report.dangling,
                report.expected_spans - report.found_spans
            ),
        );
    }
    demand(report.span_share() >= least, format!("only {:.2} % of the spans", 100.0 * report.span_share()));
    if scenario.background {
        let calls = report.background_clients + report.background_missing;
        demand(report.background_clients > 0, "no background call was seen".into());
        demand(
            report.background_missing * 100 <= calls,
            format!("{} of {calls} background calls have no span", report.background_missing),
        );
    }
    if std::env::var_os("SPANWIRE_E2E_SPANS").is_some() {
        dump(&spans[from..]);
    }
    (report, failures)
}

/// Every span of the level as a line on stderr, for looking at a failure (SPANWIRE_E2E_SPANS=1).
fn dump(spans: &[common::eval::SpanRec]) {
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |text, b| format!("{text}{b:02x}"));
    for span in spans {
        let parent = span.parent.map_or_else(|| "-".into(), |parent| hex(&parent));
        let about = match span.about() {
            About::Nothing => format!("({})", span.name),
            _ => span.path.clone(),
        };
        eprintln!("{} {} {parent} {:?} {} {about}", hex(&span.trace), hex(&span.id), span.kind, span.port);
    }
}

const HEAD: &str = "scenario             at  requests  errors    req/s  complete  wrong  dupl.  spans     background (joined, missing)";

fn line(row: &Row) -> String {
    let mut line = format!(
        "{:18} {:4} {:9} {:7} {:8.0}",
        row.scenario,
        row.concurrency,
        row.outcome.answered.len() + row.outcome.errors.len(),
        row.outcome.errors.len(),
        row.outcome.answered.len() as f64 / row.outcome.elapsed.as_secs_f64().max(1e-3)
    );
    if let Some(report) = &row.report {
        let _ = write!(
            line,
            "  {:7.2}%  {:5}  {:5}  {:7.2}%  {} ({}, {})",
            100.0 * report.complete_share(),
            report.wrong.len(),
            report.duplicates,
            100.0 * report.span_share(),
            report.background_clients,
            report.background_joined,
            report.background_missing
        );
    }
    if !row.failures.is_empty() {
        line.push_str("  FAIL");
    }
    line
}

fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut table = format!("{HEAD}\n");
    for row in rows {
        table.push_str(&line(row));
        table.push('\n');
    }
    table
}
