//! The programs of the matrix: how each hop is started and what it needs.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::common::load;
use crate::common::services::{Process, which};

const APPS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apps");
/// Every background caller ends by itself after this.
const BACKGROUND_SECONDS: u32 = 300;
pub const BACKGROUND_HZ: u32 = 50;

/// What a program is, which decides what is demanded of its traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// One thread (or process) serves one request at a time: every trace is complete.
    Threads,
    /// Event loops and pools: no wrong link, ≥ 99 % of the spans.
    Loop,
}

/// One hop of the chain.
pub struct Hop<'a> {
    pub service: &'static str,
    pub port: u16,
    pub next: Option<u16>,
    /// A directory of its own, readable by all.
    pub dir: &'a Path,
}

type Start = fn(&Hop<'_>) -> io::Result<Command>;

pub struct Scenario {
    pub name: &'static str,
    pub class: Class,
    /// How each of A, B, C is started.
    hops: [Start; 3],
    /// Programs that must be there; `venv:` means in the Python venv.
    needs: &'static [&'static str],
    /// Executables to select besides the listeners on the chain's ports.
    pub also_exe: &'static [&'static str],
    /// The programs call by themselves.
    pub background: bool,
    /// Half of the requests carry a `traceparent`.
    pub traceparent: bool,
    /// Export by HTTP/protobuf instead of gRPC.
    pub http_export: bool,
    /// Percent of the normal number of requests: for programs that are slow by nature.
    pub percent: usize,
    /// Called once when all hops listen.
    after_start: Option<fn(&Hop<'_>) -> io::Result<()>>,
}

const fn scenario(
    name: &'static str,
    class: Class,
    start: Start,
    needs: &'static [&'static str],
) -> Scenario {
    Scenario {
        name,
        class,
        hops: [start; 3],
        needs,
        also_exe: &[],
        background: true,
        traceparent: false,
        http_export: false,
        percent: 100,
        after_start: None,
    }
}

pub fn all() -> Vec<Scenario> {
    use Class::{Loop, Threads};
    vec![
        Scenario { traceparent: true, ..scenario("python-threading", Threads, threading, &["venv:python"]) },
        scenario("python-requests", Threads, threading_requests, &["venv:python"]),
        scenario("gunicorn-sync", Threads, gunicorn_sync, &["venv:gunicorn"]),
        scenario("gunicorn-gthread", Threads, gunicorn_gthread, &["venv:gunicorn"]),
        // As it comes: a reactor thread reads whatever is not there at once, and hands it to the pool
        // in the interpreter's memory (docs/LIMITS.md).
        scenario("puma", Loop, puma, &["puma"]),
        scenario("puma-direct", Threads, puma_direct, &["puma"]),
        Scenario {
            after_start: Some(start_php_background),
            ..scenario("apache-php", Threads, apache_php, &["apache2", "glob:libphp"])
        },
        Scenario {
            also_exe: &["*/curl", "*/sh", "*/dash", "*/python3*"],
            percent: 25,
            ..scenario("apache-cgi", Threads, apache_cgi, &["apache2", "curl", "venv:python"])
        },
        Scenario { background: false, ..scenario("nginx", Loop, nginx, &["nginx"]) },
        Scenario {
            hops: [nginx, threading, node_http],
            http_export: true,
            ..scenario("nginx-python-node", Loop, nginx, &["nginx", "venv:python", "node"])
        },
        scenario("node-http", Loop, node_http, &["node"]),
        scenario("node-fetch", Loop, node_fetch, &["node", "node:fetch"]),
        scenario("asyncio", Loop, asyncio, &["venv:python"]),
        scenario("uvloop", Loop, uvloop, &["venv:python"]),
        scenario("java", Loop, java, &["java", "javac"]),
        scenario("go", Loop, go, &["go"]),
    ]
}

impl Scenario {
    /// Why it cannot run here.
    pub fn missing(&self) -> Option<String> {
        self.needs.iter().find_map(|need| {
            let there = match need.split_once(':') {
                Some(("venv", program)) => venv(program).exists(),
                Some(("node", _)) => Command::new(which("node")?)
                    .args(["-e", "process.exit(typeof fetch === 'function' ? 0 : 1)"])
                    .status()
                    .is_ok_and(|status| status.success()),
                Some(_) => php_module().is_some(),
                None => which(need).is_some(),
            };
            (!there).then(|| format!("{need} is not installed (tests/setup test)"))
        })
    }

    /// Starts the chain from its end, each hop once the next one listens. Ports are those of A, B, C.
    pub fn start(&self, ports: &[u16], dir: &Path) -> io::Result<Vec<Process>> {
        let mut started = Vec::new();
        for (n, service) in ["A", "B", "C"].into_iter().enumerate().rev() {
            let dir = dir.join(service);
            fs::create_dir_all(&dir)?;
            let hop = Hop { service, port: ports[n], next: ports.get(n + 1).copied(), dir: &dir };
            let mut command = self.hops[n](&hop)?;
            hop.environment(&mut command);
            let mut process = Process::start(&command, &format!("{}-{service}", self.name), &dir)?;
            process.wait_for_port(hop.port, Duration::from_secs(30))?;
            if let Some(after) = self.after_start {
                after(&hop)?;
            }
            started.push(process);
        }
        Ok(started)
    }
}

impl Hop<'_> {
    fn environment(&self, command: &mut Command) {
        let next = self.next.map(|port| format!("http://127.0.0.1:{port}")).unwrap_or_default();
        command
            .env("PORT", self.port.to_string())
            .env("NEXT", next)
            .env("SERVICE", self.service)
            .env("BG_SECONDS", BACKGROUND_SECONDS.to_string())
            .env("PYTHONPATH", format!("{APPS}/python"))
            .env("PYTHONDONTWRITEBYTECODE", "1");
        // A program that shares its rate among workers has set it already.
        if !command.get_envs().any(|(key, _)| key == "BG_HZ") {
            command.env("BG_HZ", BACKGROUND_HZ.to_string());
        }
        for key in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(key);
        }
    }
}

fn cache() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home).unwrap_or_default().join("spanwire")
}

/// A program of the venv that tests/setup makes.
pub fn venv(program: &str) -> PathBuf {
    std::env::var_os("SPANWIRE_VENV")
        .map_or_else(|| cache().join("venv"), PathBuf::from)
        .join("bin")
        .join(program)
}

fn python(script: &str) -> Command {
    let mut command = Command::new(venv("python"));
    command.arg(format!("{APPS}/python/{script}"));
    command
}

fn threading(_: &Hop<'_>) -> io::Result<Command> {
    Ok(python("threading_server.py"))
}

fn threading_requests(_: &Hop<'_>) -> io::Result<Command> {
    let mut command = python("threading_server.py");
    command.env("CLIENT", "requests");
    Ok(command)
}

fn gunicorn(hop: &Hop<'_>, workers: u32, class: &str, threads: u32) -> io::Result<Command> {
    let mut command = Command::new(venv("gunicorn"));
    command
        .args(["--bind", &format!("127.0.0.1:{}", hop.port), "--workers", &workers.to_string()])
        .args(["--worker-class", class, "--threads", &threads.to_string(), "--no-control-socket"])
        .args(["--log-level", "warning", "--graceful-timeout", "1", "wsgi:app"])
        .current_dir(hop.dir)
        .env("BG_HZ", (f64::from(BACKGROUND_HZ) / f64::from(workers)).to_string());
    Ok(command)
}

fn gunicorn_sync(hop: &Hop<'_>) -> io::Result<Command> {
    gunicorn(hop, 4, "sync", 1)
}

fn gunicorn_gthread(hop: &Hop<'_>) -> io::Result<Command> {
    gunicorn(hop, 2, "gthread", 32)
}

fn puma(hop: &Hop<'_>) -> io::Result<Command> {
    let mut command = Command::new(which("puma").unwrap_or_default());
    command
        .args(["--quiet", "--threads", "32:32", "--workers", "0", "--environment", "production"])
        .args(["--bind", &format!("tcp://127.0.0.1:{}", hop.port), &format!("{APPS}/ruby/config.ru")])
        .current_dir(hop.dir);
    Ok(command)
}

fn puma_direct(hop: &Hop<'_>) -> io::Result<Command> {
    let mut command = puma(hop)?;
    command.args(["--config", &format!("{APPS}/ruby/direct.rb")]);
    Ok(command)
}

fn php_module() -> Option<PathBuf> {
    let modules = fs::read_dir("/usr/lib/apache2/modules").ok()?;
    modules.flatten().map(|entry| entry.path()).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libphp") && name.ends_with(".so")
    })
}

fn apache(hop: &Hop<'_>, script: &str, handler: &str) -> io::Result<Command> {
    let docs = hop.dir.join("htdocs");
    fs::create_dir_all(&docs)?;
    fs::copy(format!("{APPS}/apache/{script}"), docs.join(script))?;
    fs::set_permissions(docs.join(script), fs::Permissions::from_mode(0o755))?;
    let dir = hop.dir.to_string_lossy();
    let handler = handler.replace("@DIR@", &dir);
    let next = hop.next.map(|port| format!("http://127.0.0.1:{port}")).unwrap_or_default();
    let conf = fs::read_to_string(format!("{APPS}/apache/httpd.conf.in"))?
        .replace("@HANDLER@", &handler)
        .replace("@DIR@", &dir)
        .replace("@PORT@", &hop.port.to_string())
        .replace("@MODULES@", "/usr/lib/apache2/modules")
        .replace("@USER@", "www-data")
        .replace("@GROUP@", "www-data")
        .replace("@NEXT@", &next)
        .replace("@SERVICE@", hop.service)
        .replace("@BG_HZ@", &BACKGROUND_HZ.to_string())
        .replace("@BG_SECONDS@", &BACKGROUND_SECONDS.to_string());
    let file = hop.dir.join("httpd.conf");
    fs::write(&file, conf)?;
    let mut command = Command::new(which("apache2").unwrap_or_default());
    command.args(["-D", "FOREGROUND", "-f"]).arg(file);
    Ok(command)
}

fn apache_php(hop: &Hop<'_>) -> io::Result<Command> {
    let module = php_module().unwrap_or_default();
    let handler = format!(
        "LoadModule php_module {}\nAliasMatch \"^/\" \"@DIR@/htdocs/hop.php\"\n<FilesMatch \"\\.php$\">\nSetHandler application/x-httpd-php\n</FilesMatch>",
        module.display()
    );
    apache(hop, "hop.php", &handler)
}

/// The background caller under mod_php is a worker that has answered this request and goes on.
fn start_php_background(hop: &Hop<'_>) -> io::Result<()> {
    if hop.next.is_none() {
        return Ok(());
    }
    match load::get(hop.port, "/start-background", "", false, &mut None)? {
        (200, _) => Ok(()),
        (status, body) => {
            Err(io::Error::other(format!("/start-background: {status} {}", String::from_utf8_lossy(&body))))
        }
    }
}

fn apache_cgi(hop: &Hop<'_>) -> io::Result<Command> {
    let logger = if hop.next.is_some() {
        format!("CustomLog \"||{} {APPS}/python/log_reader.py\" \"%U\"\n", venv("python").display())
    } else {
        String::new()
    };
    let handler = format!(
        "LoadModule cgi_module /usr/lib/apache2/modules/mod_cgi.so\n{logger}ScriptAliasMatch \"^/\" \"@DIR@/htdocs/hop.cgi\""
    );
    apache(hop, "hop.cgi", &handler)
}

fn nginx(hop: &Hop<'_>) -> io::Result<Command> {
    let (upstream, location) = match hop.next {
        Some(port) => (
            format!("upstream next {{ server 127.0.0.1:{port}; keepalive 64; }}"),
            format!(
                "proxy_pass http://next; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host 127.0.0.1:{port};"
            ),
        ),
        None => (String::new(), format!("return 200 \"{} $uri\";", hop.service)),
    };
    let dir = hop.dir.to_string_lossy();
    let conf = fs::read_to_string(format!("{APPS}/nginx/proxy.conf.in"))?
        .replace("@WORKERS@", "1")
        .replace("@DIR@", &dir)
        .replace("@UPSTREAM@", &upstream)
        .replace("@PORT@", &hop.port.to_string())
        .replace("@LOCATION@", &location);
    let file = hop.dir.join("nginx.conf");
    // Workers of a root nginx change user: the temporary directories must be theirs, so they stay root's.
    let conf = if nix::unistd::geteuid().is_root() { format!("user root;\n{conf}") } else { conf };
    fs::write(&file, conf)?;
    let mut command = Command::new(which("nginx").unwrap_or_default());
    command.arg("-p").arg(hop.dir).arg("-e").arg(hop.dir.join("error.log")).arg("-c").arg(file);
    Ok(command)
}

fn node(client: &str) -> io::Result<Command> {
    let mut command = Command::new(which("node").unwrap_or_default());
    command.arg(format!("{APPS}/node/server.mjs")).env("CLIENT", client);
    Ok(command)
}

fn node_http(_: &Hop<'_>) -> io::Result<Command> {
    node("http")
}

fn node_fetch(_: &Hop<'_>) -> io::Result<Command> {
    node("fetch")
}

fn asyncio(_: &Hop<'_>) -> io::Result<Command> {
    Ok(python("aio_server.py"))
}

fn uvloop(_: &Hop<'_>) -> io::Result<Command> {
    Ok(python("uvloop_server.py"))
}

/// The output directory of what must be compiled, kept between runs.
fn built(name: &str) -> io::Result<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// Runs a compiler when `out` is older than `source`.
fn compile(source: &Path, out: &Path, command: &mut Command) -> io::Result<()> {
    let time = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    if time(out) > time(source) {
        return Ok(());
    }
    let output = command.output()?;
    if output.status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("{}: {}", source.display(), String::from_utf8_lossy(&output.stderr))))
    }
}

fn java(_: &Hop<'_>) -> io::Result<Command> {
    let (source, out) = (PathBuf::from(format!("{APPS}/java/Server.java")), built("java")?);
    let mut javac = Command::new(which("javac").unwrap_or_default());
    javac.arg("-d").arg(&out).arg(&source);
    compile(&source, &out.join("Server.class"), &mut javac)?;
    let mut command = Command::new(which("java").unwrap_or_default());
    command
        .args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-Dsun.net.httpserver.nodelay=true", "-cp"])
        .arg(out)
        .arg("Server");
    Ok(command)
}

fn go(_: &Hop<'_>) -> io::Result<Command> {
    let (source, out) = (PathBuf::from(format!("{APPS}/go/main.go")), built("go")?.join("hop"));
    let mut build = Command::new(which("go").unwrap_or_default());
    build.args(["build", "-o"]).arg(&out).arg(".").current_dir(format!("{APPS}/go")).envs([
        ("GOTOOLCHAIN", "local"),
        ("GOFLAGS", "-mod=mod"),
        ("GOPROXY", "off"),
        ("GO111MODULE", "on"),
    ]);
    compile(&source, &out, &mut build)?;
    Ok(Command::new(out))
}
