#!/usr/bin/env python3
"""Real HTTP/2 clients and proxies whose requests are given a field: they work as before, and nothing else changes.

    tests/propagation/http2.py [--bare] [--streams N] [--claim auto|lasting|brief] [--least PERCENT] [--list] [NAME]...

Each runs without spanwire, then selected by it (--bare: only without). Servers are real ones too. A relay in front of
them (http2/go/tap) passes every byte on and decodes it: the header lists of both runs are the same, in their order, but
for one traceparent more; trailers are the same. An error is what any of the three says: the client, which compares all
that comes back with what it sent; the peers in GOAWAY and RST_STREAM; the relay. Servers that can tell have seen
as many traceparents as the relay. Without HTTP/2 in spanwire, no request has one, and all else holds.
"""
import argparse
import atexit
import collections
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))
from clients import CACHE, VENV, Failed, must, wait_for  # noqa: E402
from lib.tracer import Tracer, free_port, need_root  # noqa: E402

SOURCES = HERE / "http2"
BUILT = CACHE / "spanwire/http2"
GO = BUILT / "go/bin"
VALUE = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[0-3]")
LEVEL = 100
BLOCK = bytes(range(256)) * 256
BIG = 1600  # blocks
DIRECTORY = Path(tempfile.mkdtemp(prefix="spanwire-http2-"))
atexit.register(shutil.rmtree, DIRECTORY, ignore_errors=True)


def child(*command, **options):
    """It ends with us, and what it started too."""
    process = subprocess.Popen([str(part) for part in command], start_new_session=True, **{"stdin": subprocess.DEVNULL, **options})
    atexit.register(kill, process)
    return process


def kill(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def listening(port, process):
    """`wait_for`, for as long as the process lives."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        must(process.poll() is None, f"the server ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise Failed(f"nothing listens on {port}")


# What has to be built, once for each state of the sources.

BUILDS = {
    "go": ["go", "build", "-o", "bin/", "./tap", "./load", "./grpc", "github.com/summerwind/h2spec/cmd/h2spec"],
    "node": ["npm", "install", "--silent", "--no-audit", "--no-fund"],
    "tonic": ["cargo", "build", "--locked", "--quiet"],
    "java": ["sh", "-c", "mvn -q -B dependency:copy-dependencies -DoutputDirectory=lib && javac -cp 'lib/*' Client.java"],
}
NEEDS = {"java": ["mvn", "javac"]}
reasons = {}


def lacking(name):
    """Why `name` cannot be had; None if it can."""
    if name not in reasons:
        reasons[name] = build(name)
    return reasons[name]


def build(name):
    missing = [tool for tool in NEEDS.get(name, BUILDS[name][:1]) if not shutil.which(tool)]
    if missing:
        return f"{' '.join(missing)} is not there"
    files = sorted(path for path in (SOURCES / name).rglob("*") if path.is_file())
    total = hashlib.sha256(b"".join(str(path.relative_to(SOURCES)).encode() + path.read_bytes() for path in files)).hexdigest()
    directory, stamp = BUILT / name, BUILT / name / ".built"
    if stamp.exists() and stamp.read_text() == total:
        return None
    shutil.copytree(SOURCES / name, directory, dirs_exist_ok=True)
    try:
        done = subprocess.run(BUILDS[name], cwd=directory, capture_output=True, timeout=600)
    except subprocess.TimeoutExpired:
        return f"{BUILDS[name][0]} does not end in ten minutes"
    if done.returncode:
        return f"{BUILDS[name][0]} fails: {(done.stderr or done.stdout)[-300:].decode(errors='replace')}"
    stamp.write_text(total)
    return None


def module(name):
    found = subprocess.run([VENV, "-c", f"import {name}"], stderr=subprocess.DEVNULL).returncode == 0 if shutil.which(VENV) else False
    return None if found else f"Python has no {name}: tests/setup test"


def needed(name):
    """'built:go' and so on; 'py:NAME': a module of the venv; else a program."""
    if name.startswith("built:"):
        return lacking(name[6:])
    if name.startswith("py:"):
        if name not in reasons:
            reasons[name] = module(name[3:])
        return reasons[name]
    return None if shutil.which(name) else f"{name} is not there"


# The receivers.

class Tap:
    def __init__(self, target):
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.base = f"http://{self.address}"
        self.process = child(GO / "tap", self.address, f"127.0.0.1:{target}", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        wait_for(self.port)
        time.sleep(0.05)
        self.report()

    def report(self):
        """What passed since the last one."""
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


class Asked:
    """A server that tells what it saw when a line comes."""

    def __init__(self, *command, port):
        self.process = child(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        wait_for(port)

    def seen(self):
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def files():
    """What nghttpd and nginx serve."""
    for name, data in (("file", BLOCK[:1000]), ("big", BLOCK * BIG)):
        if not (DIRECTORY / name).exists():
            (DIRECTORY / name).write_bytes(data)


class Nghttpd:
    """Its log has every field of every request. Bodies come back; /file and /big are files."""

    def __init__(self, port, *options):
        files()
        self.log = DIRECTORY / f"nghttpd-{port}"
        self.process = child("nghttpd", "--no-tls", "-v", "-a", "127.0.0.1", "-d", DIRECTORY, "--echo-upload", *options, port, stdout=open(self.log, "ab"))
        wait_for(port)

    def seen(self):
        requests, lines = 0, collections.Counter()
        with open(self.log, encoding="latin-1") as file:
            for line in file:
                if found := re.match(r"\[id=(\d+)\] \[ *[\d.]+\] recv \(stream_id=(\d+)\) (:method|traceparent): ", line):
                    if found[3] == ":method":
                        requests += 1
                    else:
                        lines[found[1], found[2]] += 1
        os.truncate(self.log, 0)
        return {"requests": requests, "with": len(lines), "twice": sum(count > 1 for count in lines.values())}


class Hypercorn:
    def __init__(self, port):
        self.port = port
        configuration = DIRECTORY / "hypercorn.toml"
        configuration.write_text(f'bind = ["127.0.0.1:{port}"]\nkeep_alive_max_requests = 100000000\nh2_max_concurrent_streams = 100\nworkers = 0\n'
                                 'loglevel = "ERROR"\ngraceful_timeout = 0.1\n')
        self.process = child(VENV, "-m", "hypercorn", "-c", configuration, "echo:app", cwd=SOURCES / "python")
        wait_for(port)

    def seen(self):
        import http.client
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", "/seen")
        return json.loads(connection.getresponse().read())


class Nginx:
    def __init__(self, port):
        files()
        self.log = DIRECTORY / f"nginx-{port}.log"
        configuration = DIRECTORY / "server.conf"
        configuration.write_text(f"""
            daemon off; master_process off; pid {DIRECTORY}/server.pid; error_log stderr crit; user root;
            events {{}}
            http {{ log_format seen '$request_method $http_traceparent'; access_log {self.log} seen;
                client_body_temp_path {DIRECTORY}/sb; proxy_temp_path {DIRECTORY}/sp;
                fastcgi_temp_path {DIRECTORY}/sf; uwsgi_temp_path {DIRECTORY}/su; scgi_temp_path {DIRECTORY}/ss; sendfile on;
                server {{ listen 127.0.0.1:{port} http2; keepalive_requests 100000000; http2_max_concurrent_streams 100;
                    location / {{ root {DIRECTORY}; }} }} }}""")
        self.process = child("nginx", "-c", configuration)
        wait_for(port)

    def seen(self):
        lines = self.log.read_text().splitlines()
        os.truncate(self.log, 0)
        return {"requests": len(lines), "with": sum(line.split(" ", 1)[1] not in ("", "-") for line in lines)}


class Server:
    def __init__(self, start):
        self.port = free_port()
        self.own = start(self.port)
        self.tap = Tap(self.port)

    def alive(self):
        for process in (self.own.process, self.tap.process):
            if process.poll() is not None:
                servers.clear()  # new ones for the next client
                raise Failed(f"the server, {Path(process.args[0]).name}, ended with {process.returncode}")


SERVERS = {
    "nghttpd": Nghttpd,
    "nghttpd-no-table": lambda port: Nghttpd(port, "-c", "0"),
    "nghttpd-large-table": lambda port: Nghttpd(port, "-c", "65536"),
    "nghttpd-windows": lambda port: Nghttpd(port, "-w", "22", "-W", "24"),
    "nginx": Nginx,
    "hypercorn": Hypercorn,
    "grpcio": lambda port: Asked(VENV, SOURCES / "python/grpc_.py", "serve", port, port=port),
    "grpc-go": lambda port: Asked(GO / "grpc", "serve", f"127.0.0.1:{port}", port=port),
}
SERVER_NEEDS = {"nginx": ["nginx"], "hypercorn": ["py:hypercorn"], "grpcio": ["py:grpc"], "grpc-go": []}  # the others: nghttpd
servers = {}


def server(name):
    if name not in servers:
        servers[name] = Server(SERVERS[name])
    return servers[name]


# The clients: bare, or selected from before their first instruction.

class Run:
    def __init__(self, claim, limit):
        self.claim, self.limit = claim, limit
        self.counters = collections.Counter()

    def tracer(self, pid):
        try:
            return Tracer("--pid", str(pid), settings={
                "ebpf.context_propagation": "headers", "spanwire.claim": self.claim, "otel_traces_export.sampler.name": "always_off"})
        except SystemExit as fault:
            raise Failed(fault) from None

    def end(self, tracer):
        for name, value in tracer.metrics().items():
            if value and (found := re.fullmatch(r'spanwire_(injection|claims)_total\{.*?result="(\w+)".*\}', name)):
                self.counters[f"{found[1]} {found[2]}"] += int(value)
        tracer.finish(0)
        must(tracer.process.returncode == 0, f"spanwire ended with {tracer.process.returncode}: {tracer.log.read_text()[-300:]}")
        shutil.rmtree(tracer.directory, ignore_errors=True)

    def start(self, *command, **options):
        """The process and its tracer, if it has one."""
        if not self.claim:
            return child(*command, **options), None
        # Selected by its id while it waits, then it becomes the program.
        process = child("sh", "-c", 'read -r _; exec "$@" </dev/null', "sh", *command, **{**options, "stdin": subprocess.PIPE})
        tracer = self.tracer(process.pid)
        process.stdin.write(b"\n")
        process.stdin.close()
        process.stdin = None
        return process, tracer

    def to_end(self, *command, **options):
        process, tracer = self.start(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        try:
            out, errors = process.communicate(timeout=self.limit)
        except subprocess.TimeoutExpired:
            kill(process)
            raise Failed(f"{Path(command[0]).name} does not end within {self.limit} s") from None
        finally:
            if tracer:
                self.end(tracer)
        must(process.returncode == 0, f"{Path(command[0]).name} ended with {process.returncode}: {(errors + out)[-500:].decode(errors='replace')}")
        return out

    def to_sum(self, *command):
        """SHA-256 and length of its standard output."""
        with open(DIRECTORY / "out", "wb") as file:
            process, tracer = self.start(*command, stdout=file)
            try:
                process.wait(self.limit)
            except subprocess.TimeoutExpired:
                kill(process)
                raise Failed(f"{command[0]} does not end within {self.limit} s") from None
            finally:
                if tracer:
                    self.end(tracer)
        must(process.returncode == 0, f"{command[0]} ended with {process.returncode}")
        return sum_of(DIRECTORY / "out")


def sum_of(path):
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            total.update(part)
    return total.hexdigest()


def paths(base, kind):
    """1,000 addresses in a file."""
    file = DIRECTORY / "addresses"
    file.write_text("".join(f"{base}/{kind}?id={number}\n" for number in range(1000)))
    return file


def h2load(*options, kind="file", clients=1, level=LEVEL, size=1000):
    """Its counters are all zero but for what succeeded; it counts the bytes of bodies, and does not look at them."""
    def run(how, at, count):
        out = how.to_end("h2load", "-n", count, "-c", clients, "-m", level, "-i", paths(at.base, kind), *options).decode()
        check_h2load(out, count, size)
        return count
    return run


def check_h2load(out, count, size):
    want = f"requests: {count} total, {count} started, {count} done, {count} succeeded, 0 failed, 0 errored, 0 timeout"
    got = re.search(r"^requests: .*$", out, re.M)
    must(got and got[0] == want, f"h2load: {got[0] if got else out[-300:]}")
    must(f"status codes: {count} 2xx, 0 3xx, 0 4xx, 0 5xx" in out, "h2load: " + re.search(r"status codes:.*", out)[0])
    data = re.search(r"\((\d+)\) data", out)
    must(data and int(data[1]) == count * size, f"h2load: {data and data[1]} bytes of bodies for {count * size}")


def posted(size=3000):
    path = DIRECTORY / f"posted-{size}"
    path.write_bytes((BLOCK * (size // len(BLOCK) + 1))[:size])
    return path


def h2load_post(*options, size=3000, **more):
    def run(how, at, count):
        return h2load("-d", posted(size), *options, kind="echo", size=size, **more)(how, at, count)
    return run


def nghttp(*options, kind="file", upload=False):
    """Each address ten times, all on one connection."""
    def run(how, at, count):
        count = max(10, min(count, 20000))
        body = BLOCK[:1000]
        urls = [f"{at.base}/{kind}?id={number}" for number in range(count // 10)]
        more = ["-d", posted(1000)] if upload else []
        out = how.to_end("nghttp", "--no-dep", "-m", 10, *options, *more, *urls)
        # Streams are written as their parts come: as often as it must be, each value is there.
        want = {value: times * (count // 10 * 10) for value, times in collections.Counter(body).items()}
        must(collections.Counter(out) == want, f"nghttp: {len(out)} bytes for {count // 10 * 10000}, or others")
        return count // 10 * 10
    return run


def old_curl():
    """Before 8.0 a connection with prior knowledge cannot be used again (curl's issue 10634)."""
    found = re.match(r"curl (\d+)\.", subprocess.run(["curl", "--version"], capture_output=True, text=True).stdout)
    return int(found[1]) < 8


def curl(upload=False):
    """LEVEL at a time: on one connection; by an old curl on one each."""
    def run(how, at, count):
        count = -(-min(count, 2 * LEVEL if old_curl() else 5000) // LEVEL) * LEVEL
        into = DIRECTORY / "curl"
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir()
        more, kind = (["--data-binary", f"@{posted()}"], "echo") if upload else ([], "file")
        line = ["curl", "-sS", "--fail", "--http2-prior-knowledge", "-Z", "--parallel-max", LEVEL, *more]
        if old_curl():
            for first in range(0, count, LEVEL):
                how.to_end(*line, "--parallel-immediate", "-o", into / "#1", f"{at.base}/{kind}?id=[{first + 1}-{first + LEVEL}]")
        else:
            how.to_end(*line, "-o", into / "#1", f"{at.base}/{kind}?id=[1-{count}]")
        want = posted().read_bytes() if upload else BLOCK[:1000]
        files = list(into.iterdir())
        must(len(files) == count, f"curl: {len(files)} files for {count}")
        must(all(path.read_bytes() == want for path in files), "curl: a body differs")
        return count
    return run


def curl_upgrade(how, at, count):
    """One request of HTTP/1 that asks for HTTP/2, and is answered over it; the others on the same connection."""
    count = min(count, 100)
    out = how.to_end("curl", "-sS", "--fail", "--http2", "-w", "%{http_version} ", f"{at.base}/echo?id=[1-{count}]")
    must(out == b"2 " * count, f"curl: {out[:100]}")
    return count - 1


def program(*command, address=False, most=None):
    def run(how, at, count):
        count = min(count, most or count)
        base = at.address if address else at.base
        how.to_end(*[part for part in command if part != "own"], base, count, LEVEL, *[part for part in command if part == "own"])
        return count
    return run


def node_large(how, at, count):
    """40,000 bytes in a field: the header block goes on in CONTINUATION."""
    count = min(count, 500)
    how.to_end("node", SOURCES / "node/http2.js", at.base, count, 20, 40000)
    return count


def trailers_of_go(how, at, count):
    how.to_end(GO / "load", at.base, count, LEVEL, "trailers")
    return count


def java(how, at, count):
    how.to_end("java", "-cp", f"{BUILT}/java:{BUILT}/java/lib/*", "Client", at.address, count, LEVEL)
    return count


def big(*command, path="big"):
    """100 MB, there or back or both."""
    def run(how, at, _):
        must(how.to_sum(*command, f"{at.base}/{path}") == sum_of(DIRECTORY / "big"), "the sum differs")
        return 1
    return run


class Raw:
    """Answers with the SHA-256 of what it was sent."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            threading.Thread(target=self.serve, args=(self.listener.accept()[0],), daemon=True).start()

    def serve(self, end):
        with end:
            total = hashlib.sha256()
            while part := end.recv(1 << 16):
                total.update(part)
            end.sendall(total.hexdigest().encode())


def other(how, at, count):
    count = max(5, min(count // 50, 50))
    how.to_end(VENV, SOURCES / "python/other.py", at.base, Raw().port, count)
    return count


def proxy(configure, *command):
    """h2load in front with LEVEL streams of one connection, then of many; then a client that looks at each byte."""
    def run(how, at, count):
        port = at.__dict__.setdefault("proxy", free_port())
        configuration = DIRECTORY / f"{Path(command[0]).name}.yaml"
        configuration.write_text(configure(port, at.port))
        environment = {**os.environ, "ENVOY_UID": "0"}
        said = DIRECTORY / "proxy-said"
        with open(said, "wb") as log:
            process, tracer = how.start(*[str(configuration) if part == "CONF" else part for part in command], env=environment, stdout=log, stderr=log)
        front = Run(None, how.limit)

        class Front:
            base = f"http://127.0.0.1:{port}"

        try:
            try:
                listening(port, process)
            except Failed as fault:
                raise Failed(f"{fault}: {said.read_text()[-500:]}") from None
            sent = h2load()(front, Front, count)
            sent += h2load_post(clients=10, level=10)(front, Front, count)
            sent += program(GO / "load")(front, Front, count)
            sent += h2load("-H", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")(front, Front, max(10, count // 10))
        finally:
            if tracer:
                how.end(tracer)
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                kill(process)
        return sent
    return run


def nginx_conf(port, up):
    return f"""
        daemon off; master_process on; worker_processes 2; pid {DIRECTORY}/proxy.pid; error_log stderr crit; user root;
        events {{}}
        http {{ access_log off; client_body_temp_path {DIRECTORY}/pb; proxy_temp_path {DIRECTORY}/pp;
            fastcgi_temp_path {DIRECTORY}/pf; uwsgi_temp_path {DIRECTORY}/pu; scgi_temp_path {DIRECTORY}/ps;
            upstream receiver {{ server 127.0.0.1:{up}; keepalive 100; keepalive_requests 100000000; }}
            server {{ listen 127.0.0.1:{port} http2 backlog=1024; keepalive_requests 100000000; http2_max_concurrent_streams 128;
                location / {{ grpc_pass grpc://receiver; client_body_buffer_size 8k; }} }} }}"""


def haproxy_conf(port, up):
    return f"""
global
    nbthread 2
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
listen proxy
    bind 127.0.0.1:{port} proto h2
    server receiver 127.0.0.1:{up} proto h2
"""


def envoy_conf(port, up):
    return (SOURCES / "envoy.yaml.in").read_text().replace("@PORT@", str(port)).replace("@UP@", str(up))


def nghttpx_conf(port, up):
    return f"frontend=127.0.0.1,{port};no-tls\nbackend=127.0.0.1,{up};;proto=h2\nworkers=1\nbackend-connections-per-host=8\nadd-x-forwarded-for=no\nno-via=yes\nlog-level=ERROR\nerrorlog-file=/dev/stderr\n" \
           "frontend-max-requests=100000000\n"


def comes_and_goes(*command, times, address=False):
    """The connection is there before spanwire, which is started, ended and killed while it is used."""
    def run(how, at, count):
        count = max(200, count * times)
        process = child(*command, at.address if address else at.base, count, LEVEL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        until = time.monotonic() + how.limit
        rounds = 0
        while how.claim and process.poll() is None and time.monotonic() < until:
            time.sleep(0.2)
            tracer = how.tracer(process.pid)
            rounds += 1
            time.sleep(0.5)
            if rounds % 2:
                how.end(tracer)
            else:
                tracer.kill()
        try:
            out, _ = process.communicate(timeout=how.limit)
        except subprocess.TimeoutExpired:
            kill(process)
            raise Failed(f"the client does not end within {how.limit} s") from None
        must(process.returncode == 0, f"the client ended with {process.returncode}: {out[-500:].decode(errors='replace')}")
        if how.claim:
            how.counters["started"] += rounds
        return count
    return run


GRPC = [VENV, SOURCES / "python/grpc_.py", "call"]
OWN = ("-H", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
ENVOY = str(Path(VENV).parent / "envoy")

# name: (client, server, what it needs)
CLIENTS = {
    "h2load": (h2load(), "nghttpd", ["h2load"]),
    "h2load-many": (h2load(clients=10, level=10), "nghttpd", ["h2load"]),
    "h2load-upload": (h2load_post(), "nghttpd", ["h2load"]),
    "h2load-no-table": (h2load(), "nghttpd-no-table", ["h2load"]),
    "h2load-large-table": (h2load("--encoder-header-table-size=65536"), "nghttpd-large-table", ["h2load"]),
    "h2load-own": (h2load(*OWN), "nghttpd", ["h2load"]),
    "h2load-nginx": (h2load(), "nginx", ["h2load"]),
    "h2load-hypercorn": (h2load_post(), "hypercorn", ["h2load"]),
    "nghttp": (nghttp(), "nghttpd", ["nghttp"]),
    "nghttp-padding": (nghttp("--padding=200"), "nghttpd", ["nghttp"]),
    "nghttp-continuation": (nghttp("--continuation"), "nghttpd", ["nghttp"]),
    "nghttp-trailers": (nghttp("--trailer", "x-sum: 1", kind="echo", upload=True), "nghttpd", ["nghttp"]),
    "nghttp-nginx": (nghttp(), "nginx", ["nghttp"]),
    "curl": (curl(), "nghttpd", ["curl"]),
    "curl-upload": (curl(upload=True), "nghttpd", ["curl"]),
    "curl-hypercorn": (curl(upload=True), "hypercorn", ["curl"]),
    "curl-nginx": (curl(), "nginx", ["curl"]),
    "curl-upgrade": (curl_upgrade, "hypercorn", ["curl"]),
    "libcurl": (program(VENV, SOURCES / "python/curl_.py"), "nghttpd", ["py:pycurl"]),
    "libcurl-hypercorn": (program(VENV, SOURCES / "python/curl_.py"), "hypercorn", ["py:pycurl"]),
    "httpx": (program(VENV, SOURCES / "python/httpx_.py"), "hypercorn", ["py:httpx", "py:h2"]),
    "httpx-nghttpd": (program(VENV, SOURCES / "python/httpx_.py"), "nghttpd", ["py:httpx", "py:h2"]),
    "node": (program("node", SOURCES / "node/http2.js"), "nghttpd", ["node"]),
    "node-hypercorn": (program("node", SOURCES / "node/http2.js"), "hypercorn", ["node"]),
    "node-continuation": (node_large, "nghttpd", ["node"]),
    "go": (program(GO / "load"), "nghttpd", []),
    "go-trailers": (trailers_of_go, "nghttpd", []),
    "grpcio": (program(*GRPC, address=True), "grpc-go", ["py:grpc"]),
    "grpcio-grpcio": (program(*GRPC, address=True), "grpcio", ["py:grpc"]),
    "grpcio-own": (program(*GRPC, "own", address=True), "grpc-go", ["py:grpc"]),
    "grpc-go": (program(GO / "grpc", "call", address=True), "grpcio", []),
    "grpc-go-grpc-go": (program(GO / "grpc", "call", address=True), "grpc-go", []),
    "grpc-js": (program("node", BUILT / "node/grpc.js", address=True), "grpc-go", ["node", "built:node"]),
    "grpc-js-grpcio": (program("node", BUILT / "node/grpc.js", address=True), "grpcio", ["node", "built:node"]),
    "grpc-java": (java, "grpc-go", ["java", "built:java"]),
    "grpc-java-grpcio": (java, "grpcio", ["java", "built:java"]),
    "tonic": (program(BUILT / "tonic/target/debug/tonic-client"), "grpc-go", ["built:tonic"]),
    "tonic-grpcio": (program(BUILT / "tonic/target/debug/tonic-client"), "grpcio", ["built:tonic"]),
    "proxy-nginx": (proxy(nginx_conf, "nginx", "-c", "CONF"), "nghttpd", ["nginx", "h2load"]),
    "proxy-haproxy": (proxy(haproxy_conf, "haproxy", "-f", "CONF"), "nghttpd", ["haproxy", "h2load"]),
    "proxy-envoy": (proxy(envoy_conf, ENVOY, "--log-level", "error", "--concurrency", "2", "--disable-hot-restart", "-c", "CONF"), "nghttpd", [ENVOY, "h2load"]),
    "proxy-nghttpx": (proxy(nghttpx_conf, "nghttpx", "--conf", "CONF"), "nghttpd", ["nghttpx", "h2load"]),
    "other": (other, "nghttpd", ["py:httpx", "py:h2"]),
    "curl-100MB": (big("curl", "-sS", "--fail", "--http2-prior-knowledge"), "nginx", ["curl"]),
    "curl-100MB-echo": (big("curl", "-sS", "--fail", "--http2-prior-knowledge", "--data-binary", f"@{DIRECTORY}/big", path="echo"), "nghttpd-windows", ["curl"]),
    "nghttp-100MB-echo": (big("nghttp", "-w", "22", "-W", "24", "-d", DIRECTORY / "big", path="echo"), "nghttpd", ["nghttp"]),
    "go-comes-and-goes": (comes_and_goes(GO / "load", times=40), "nghttpd", []),
    "grpcio-comes-and-goes": (comes_and_goes(*GRPC, times=20, address=True), "grpc-go", ["py:grpc"]),
}


# What both runs are held against.

def lists(report, what="requests"):
    found = collections.Counter()
    for text, times in report[what].items():
        found[report["plain"](tuple(map(tuple, json.loads(text))))] += times
    return found


def same_host(fields):
    """haproxy 2.6 sends now :authority, now host, by itself."""
    return tuple(field for field in fields if field[0] not in (":authority", "host")) + tuple(("host", value) for name, value in fields if name in (":authority", "host"))


PLAIN = {"proxy-haproxy": same_host}


def has(fields):
    return sum(name.lower() == "traceparent" for name, _ in fields)


# Streams that have ended are reset with STREAM_CLOSED by curl 7.88, always, and by haproxy 2.6, one in thousands.
TOLD = {name: {"client 5"} for name in ("curl-upgrade", "proxy-haproxy")}


def faults_of(report, name):
    """What the relay, and the peers in their frames, call an error."""
    faults = list(report["faults"])
    for who, times in report["goaways"].items():
        if not who.endswith(" 0"):
            faults.append(f"GOAWAY of the {who} ({times})")
    for who, times in report["resets"].items():
        if not who.endswith((" 0", " 8")) and who not in TOLD.get(name, ()):
            faults.append(f"RST_STREAM of the {who} ({times})")
    if report["other"]:
        faults.append(f"{report['other']} connections are no HTTP")
    return faults


def compare(bare, traced):
    """Of the second: with a field, with two, changed otherwise; and what tells of it."""
    left, with_, twice, changed, told, values = lists(bare), 0, 0, 0, [], collections.Counter()
    for fields, times in lists(traced).items():
        same = min(times, left[fields])
        left[fields] -= same
        times -= same
        if not times:
            continue
        for at in (at for at, (name, _) in enumerate(fields) if name == "traceparent"):
            stripped = fields[:at] + fields[at + 1:]
            if left[stripped] < times:
                continue
            left[stripped] -= times
            with_ += times
            if has(stripped):
                twice += times
                told.append(f"has one more than its own: {fields}")
            if not VALUE.fullmatch(fields[at][1]) or any(name.startswith(":") for name, _ in fields[at:]):
                changed += times
                told.append(f"is no valid field, or in front of a pseudo field: {fields}")
            values[fields[at][1][36:52]] += times
            break
        else:
            changed += times
            twice += times * (has(fields) > 1)
            told.append(f"not so without spanwire: {str(fields)[:600]}")
    missing = sum(left.values())
    if missing:
        told.append(f"{missing} requests did not arrive, such as {str(next(iter((+left))))[:600]}")
    again = sum(times - 1 for times in values.values())
    if again:
        told.append(f"{again} requests have the span of another one")
    for what in ("trailers", "heads"):
        one, two = (lists(report, what) if what == "trailers" else collections.Counter(report[what]) for report in (bare, traced))
        if one != two:
            changed += sum(((one - two) + (two - one)).values())
            told.append(f"other {what}: {str(next(iter((two - one) + (one - two))))[:600]}")
    return with_, twice, changed + missing, told


def one_run(name, at, how, count):
    """What the relay saw; raises where somebody calls it an error."""
    begun = time.monotonic()
    at.alive()
    at.tap.report()
    at.own.seen()
    try:
        sent = CLIENTS[name][0](how, at.tap, count)
    except Failed as fault:
        raise Failed(f"{'with' if how.claim else 'without'} spanwire: {fault}") from None
    time.sleep(0.05)
    at.alive()
    report, seen = at.tap.report(), at.own.seen()
    report["plain"] = PLAIN.get(name, lambda fields: fields)
    report["seconds"] = time.monotonic() - begun
    faults = faults_of(report, name)
    must(not faults, f"{'with' if how.claim else 'without'} spanwire, {len(faults)} errors: {'; '.join(faults[:3])}")
    got = lists(report)
    must(sum(got.values()) == sent, f"{sum(got.values())} requests arrived of {sent}")
    report["with"] = sum(times for fields, times in got.items() if has(fields))
    # curl's request of HTTP/1 is one for the server too.
    must(seen["requests"] == sent + len(report["heads"]), f"the server saw {seen['requests']} of {sent} requests")
    must(seen["with"] == report["with"], f"the server saw {seen['with']} traceparents, the relay {report['with']}")
    must(not seen.get("twice"), f"the server saw two in {seen.get('twice')} requests")
    return report, sent


def short(counters):
    return ", ".join(f"{name} {value}" for name, value in sorted(counters.items()))


def check(name, arguments):
    at = server(CLIENTS[name][1])
    bare, sent = one_run(name, at, Run(None, arguments.limit), arguments.streams)
    own = bare["with"]
    must(own in (0, sent) or name.startswith("proxy-"), f"{own} of {sent} have a traceparent without spanwire")
    text = f"{bare['connections']} connections, most at a time {bare['most']}" + "".join(
        f", {bare[key]} {what}" for key, what in (("continued", "CONTINUATION"), ("padded", "padded"), ("resized", "table sizes")) if bare[key])
    if known := sum(bare["resets"].get(who, 0) for who in TOLD.get(name, ())):
        text += f", {known} reset as known"
    text += f", {sum(bare['trailers'].values())} trailers" if bare["trailers"] else ""
    if arguments.bare:
        print(f"ok      {name}: {sent} streams, 0 errors, {own} with header{' (own)' if own else ''}; {text}; {bare['seconds']:.1f} s", flush=True)
        return
    how = Run(arguments.claim, arguments.limit)
    traced, _ = one_run(name, at, how, arguments.streams)
    with_, twice, changed, told = compare(bare, traced)
    text += f"; {bare['seconds']:.1f} s, then {traced['seconds']:.1f} s" + (f" ({short(how.counters)})" if how.counters else "")
    line = f"{name}: {sent} streams, 0 errors, {with_} with header{f' beside {own} own' if own else ''}, {twice} twice, {changed} changed; {text}"
    must(not told, f"{sent} streams, {with_} with header, {twice} twice, {changed} changed: {'; '.join(told[:3])}")
    must(with_ * 100 >= (sent - own) * arguments.least, f"{with_} of {sent - own} have a header ({short(how.counters)})")
    print(f"ok      {line}", flush=True)


# The conformance suite: each of its cases ends as it does without.

def cases(how, port):
    report = DIRECTORY / "h2spec.xml"
    report.unlink(missing_ok=True)
    process, tracer = how.start(GO / "h2spec", "-h", "127.0.0.1", "-p", port, "-P", "/file", "-o", 1, "-S", "-j", report, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(max(how.limit, 300))
    except subprocess.TimeoutExpired:
        kill(process)
        raise Failed("h2spec does not end") from None
    finally:
        if tracer:
            how.end(tracer)
    must(report.exists(), f"h2spec ended with {process.returncode} and no report")
    found = {}
    for suite in xml.etree.ElementTree.parse(report).getroot().iter("testsuite"):
        for case in suite.iter("testcase"):
            end = next((kind for kind in ("failure", "error", "skipped") if case.find(kind) is not None), "passed")
            found[suite.get("id") or suite.get("package"), suite.get("name"), case.get("classname") or case.get("name"), len(found)] = end
    must(len(found) > 100, f"h2spec has {len(found)} cases")
    return found


def spec(name, arguments):
    port = server(name.removeprefix("h2spec-")).port
    begun = time.monotonic()
    bare = cases(Run(None, arguments.limit), port)
    tally = collections.Counter(bare.values())
    if arguments.bare:
        print(f"ok      {name}: {len(bare)} cases, {short(tally)}; {time.monotonic() - begun:.1f} s", flush=True)
        return
    between = time.monotonic()
    how = Run(arguments.claim, arguments.limit)
    traced = cases(how, port)
    differing = [case for case in bare if bare[case] != traced.get(case)]
    if differing:  # by chance, or by us: once more each
        again, once_more = cases(Run(None, arguments.limit), port), cases(how, port)
        differing = [case for case in differing if once_more.get(case) not in (bare[case], again.get(case))]
    must(not differing, f"{len(differing)} cases end otherwise: " + "; ".join(f"{' '.join(map(str, case[:3]))}: {bare[case]}, then {traced.get(case)}" for case in differing[:5]))
    print(f"ok      {name}: {len(bare)} cases, {short(tally)}, the same with spanwire; {between - begun:.1f} s, then {time.monotonic() - between:.1f} s"
          f"{f' ({short(how.counters)})' if how.counters else ''}", flush=True)


SPECS = {"h2spec-nghttpd": ["nghttpd"], "h2spec-nginx": ["nginx"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bare", action="store_true", help="only without spanwire")
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--claim", default="auto", choices=["auto", "lasting", "brief"])
    parser.add_argument("--least", type=float, default=0, metavar="PERCENT", help="of the requests of each client, that have a header")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    arguments.limit = 60 + arguments.streams // 50
    every = [*CLIENTS, *SPECS]
    if unknown := set(arguments.names) - set(every):
        parser.error(f"unknown: {' '.join(sorted(unknown))}")
    if arguments.list:
        print("\n".join(every))
        return 0
    if not arguments.bare:
        need_root(len(every))
    names = arguments.names or every
    if reason := lacking("go"):
        print(f"skipped {len(names)} clients: the relay is not there, {reason}")
        return 3
    failed = skipped = 0
    for name in names:
        needs = SPECS.get(name) or CLIENTS[name][2] + SERVER_NEEDS.get(CLIENTS[name][1], ["nghttpd"])
        if reason := next(filter(None, map(needed, needs)), None):
            print(f"skip    {name}: {reason}", flush=True)
            skipped += 1
            continue
        try:
            (spec if name in SPECS else check)(name, arguments)
        except (Failed, OSError, ValueError, subprocess.SubprocessError) as fault:
            failed += 1
            print(f"FAILED  {name}: {fault}", flush=True)
            for at in list(servers.values()):
                try:
                    at.alive()
                except Failed as ended:
                    print(f"        {ended}", flush=True)
    print(f"{len(names)} clients, {failed} failed, {skipped} skipped; " + ("without spanwire" if arguments.bare else f"claim: {arguments.claim}"))
    return 1 if failed else 3 if skipped == len(names) else 0


if __name__ == "__main__":
    sys.exit(main())
