"""Real services, started on free ports of the loopback and ended with their process groups."""
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

APPS = Path(__file__).resolve().parent.parent / "apps"


def free_ports(count):
    """Ports that nothing has just now. Below the ephemeral range, so that no client takes one."""
    found = []
    port = 20000 + os.getpid() % 5000
    while len(found) < count:
        port += 1
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    return found


class Missing(Exception):
    """Something that the scenario needs is not installed."""


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Missing(f"{program} is not installed")


def python_with(*modules):
    """A Python that has the modules: the rig's own environment, or the running one."""
    candidates = [os.environ.get("SPANWIRE_TEST_PYTHON"), sys.executable]
    for python in filter(None, candidates):
        code = "import " + ",".join(modules)
        if subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0:
            return python
    raise Missing(f"no Python with {', '.join(modules)}")


class Services:
    def __init__(self):
        self.running = []
        self.scratch = Path(tempfile.mkdtemp(prefix="spanwire-e2e-"))
        self.scratch.chmod(0o755)

    def start(self, argv, port, env=None):
        log = open(self.scratch / f"{port}.log", "wb")
        process = subprocess.Popen(
            argv,
            env={**os.environ, "PORT": str(port), "PYTHONPATH": str(APPS), "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=self.scratch,
            start_new_session=True,
        )
        self.running.append(process)
        for _ in range(400):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return process
            if process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"{argv[0]} does not listen on {port}: {(self.scratch / f'{port}.log').read_text()[-2000:]}")

    def stop(self):
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in self.running:
                try:
                    os.killpg(process.pid, number)
                except ProcessLookupError:
                    pass
            deadline = time.time() + 3
            for process in self.running:
                try:
                    process.wait(max(0.01, deadline - time.time()))
                except subprocess.TimeoutExpired:
                    pass
        shutil.rmtree(self.scratch, ignore_errors=True)


def hop_env(next_port, hertz):
    return {"NEXT": f"http://127.0.0.1:{next_port}" if next_port else "", "BG_HZ": str(hertz)}


def threads(services, port, next_port, hertz):
    services.start([sys.executable, str(APPS / "threads.py")], port, hop_env(next_port, hertz))


def gunicorn(worker):
    def start(services, port, next_port, hertz):
        python = python_with("gunicorn")
        argv = [python, "-m", "gunicorn", "-k", worker, "-w", "4", "-b", f"127.0.0.1:{port}", "--keep-alive", "75",
                "-c", str(APPS / "gunicorn.conf.py"), "--log-level", "warning", "--backlog", "512"]
        if worker == "gthread":
            argv += ["--threads", "32"]
        services.start([*argv, "wsgi:app"], port, hop_env(next_port, hertz))

    return start


def puma(services, port, next_port, hertz):
    need("puma")
    # Without queue_requests a worker reads its requests itself; with it, puma's reactor does, and
    # hands them over in the memory of the interpreter (docs/LIMITS.md).
    argv = ["puma", "-q", "-e", "production", "-C", str(APPS / "puma.rb"), "-b", f"tcp://127.0.0.1:{port}", str(APPS / "hop.ru")]
    services.start(argv, port, hop_env(next_port, hertz))


def apache_php(services, port, next_port, hertz):
    need("apache2")
    modules = Path("/usr/lib/apache2/modules")
    php = sorted(modules.glob("libphp*.so"))
    if not php:
        raise Missing("Apache's PHP module is not installed")
    names = ["mpm_prefork", "authz_core", "alias"]
    conf = services.scratch / f"apache-{port}.conf"
    lines = [f"LoadModule {name}_module {modules}/mod_{name}.so" for name in names]
    lines += [
        f"LoadModule php_module {php[0]}", f"PidFile {services.scratch}/apache-{port}.pid", f"Listen 127.0.0.1:{port}",
        "ServerName localhost", "User nobody", "Group nogroup", f"ErrorLog {services.scratch}/apache-{port}.log",
        f"DefaultRuntimeDir {services.scratch}", "StartServers 24", "MinSpareServers 24", "MaxSpareServers 80",
        "ServerLimit 80", "MaxRequestWorkers 80", "KeepAliveTimeout 2", f'AliasMatch "^/.*" "{APPS}/hop.php"',
        f'<Directory "{APPS}">', "Require all granted", "</Directory>",
        '<FilesMatch "\\.php$">', "SetHandler application/x-httpd-php", "</FilesMatch>",
    ]
    conf.write_text("\n".join(lines) + "\n")
    services.start(["apache2", "-f", str(conf), "-DFOREGROUND"], port, hop_env(next_port, hertz))


def nginx(services, port, next_port, hertz):
    need("nginx")
    if not next_port:
        return threads(services, port, next_port, hertz)
    conf = services.scratch / f"nginx-{port}.conf"
    conf.write_text(f"""
worker_processes 1; daemon off; pid {services.scratch}/nginx-{port}.pid; error_log stderr;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {services.scratch}/b{port}; proxy_temp_path {services.scratch}/p{port};
  fastcgi_temp_path {services.scratch}/f{port}; uwsgi_temp_path {services.scratch}/u{port}; scgi_temp_path {services.scratch}/s{port};
  server {{ listen 127.0.0.1:{port} backlog=512; location / {{ proxy_pass http://127.0.0.1:{next_port}; }} }}
}}
""")
    services.start(["nginx", "-c", str(conf), "-e", "stderr"], port)


def node(client):
    def start(services, port, next_port, hertz):
        need("node")
        env = {**hop_env(next_port, hertz), "CLIENT": client}
        services.start(["node", str(APPS / "hop.mjs")], port, env)

    return start


def asyncio(loop):
    def start(services, port, next_port, hertz):
        python = python_with("aiohttp", *(["uvloop"] if loop == "uvloop" else []))
        services.start([python, str(APPS / "aio.py")], port, {**hop_env(next_port, hertz), "LOOP": loop})

    return start


def java(services, port, next_port, hertz):
    need("java")
    services.start(["java", "-Xmx256m", str(APPS / "Hop.java")], port, hop_env(next_port, hertz))


def golang(services, port, next_port, hertz):
    need("go")
    binary = services.scratch / "hop"
    if not binary.exists():
        env = {**os.environ, "GO111MODULE": "off", "CGO_ENABLED": "0"}
        subprocess.run(["go", "build", "-o", str(binary), str(APPS / "hop.go")], check=True, env=env)
    services.start([str(binary)], port, hop_env(next_port, hertz))


# name -> (how to start a hop, whether a thread serves one request at a time)
SCENARIOS = {
    "threads": (threads, True),
    "gunicorn-sync": (gunicorn("sync"), True),
    "gunicorn-gthread": (gunicorn("gthread"), True),
    "puma": (puma, True),
    "apache-php": (apache_php, True),
    "nginx": (nginx, False),
    "node-http": (node("http"), False),
    "node-fetch": (node("fetch"), False),
    "asyncio": (asyncio("asyncio"), False),
    "uvloop": (asyncio("uvloop"), False),
    "java": (java, False),
    "go": (golang, False),
}
