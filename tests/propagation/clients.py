#!/usr/bin/env python3
"""Real clients and proxies whose requests are given a header: they work as before, and nothing else changes.

    tests/propagation/clients.py [--claim auto|lasting|brief] [--count N] [NAME]...

Each runs without spanwire, then under it. The receiver keeps the raw heads of both: the second must be the
first, and one valid traceparent line more. Checksums of what is sent and received are the programs' own affair:
they end with an error.
"""
import argparse
import atexit
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from lib.tracer import BINARY, free_port, need_root  # noqa: E402

LINE = re.compile(r"traceparent: 00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[0-3]\r\n")
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
VENV = str(Path(os.environ.get("SPANWIRE_VENV", CACHE / "spanwire/venv")) / "bin/python")
BIG = 1600  # blocks of 64 KiB
DIRECTORY = Path(tempfile.mkdtemp(prefix="spanwire-clients-"))
atexit.register(shutil.rmtree, DIRECTORY, ignore_errors=True)


class Failed(Exception):
    pass


def must(holds, what):
    if not holds:
        raise Failed(what)


def wait_for(port):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
    raise Failed(f"nothing listens on {port}")


class Receiver:
    def __init__(self):
        self.port = free_port()
        process = subprocess.Popen([sys.executable, str(HERE / "receiver.py"), str(self.port)])
        atexit.register(process.kill)
        wait_for(self.port)
        self.base = f"http://127.0.0.1:{self.port}"

    def records(self):
        """[connection, number on it, head] since the last call."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", "/records")
        return json.loads(connection.getresponse().read())


class Run:
    """Programs as they are, or under spanwire."""

    def __init__(self, claim):
        self.claim = claim

    def prefix(self):
        if not self.claim:
            return []
        settings = {"ebpf.context_propagation": "headers", "spanwire.claim": self.claim, "otel_traces_export.sampler.name": "always_off"}
        return [BINARY, "run", "--print", "text", "--log-level", "error", *(f"--set={key}={value}" for key, value in settings.items()), "--"]

    def to_end(self, *command, stdin=None):
        done = subprocess.run([*self.prefix(), *map(str, command)], stdin=stdin or subprocess.DEVNULL, capture_output=True, timeout=600)
        must(done.returncode == 0, f"{command[0]} ended with {done.returncode}: {(done.stderr + done.stdout)[-500:].decode(errors='replace')}")
        return done.stdout

    def server(self, *command, port):
        process = subprocess.Popen([*self.prefix(), *map(str, command)], stdin=subprocess.DEVNULL)
        wait_for(port)
        return process


def program(*command):
    def run(how, receiver, count):
        how.to_end(*command, receiver.base, count)
    run.needs = command[0]
    return run


def curl(how, receiver, count):
    out = how.to_end("curl", "-sS", f"{receiver.base}/get/[1-{count}]")
    must(out == b"ok" * count, "curl: not every answer is ok")
    for number in range(3):
        must(how.to_end("curl", "-sSL", f"{receiver.base}/redirect/{number}") == b"ok", "redirect")
    data = os.urandom(300000)
    (DIRECTORY / "data").write_bytes(data)
    for arguments in (["-T", DIRECTORY / "data"], ["--data-binary", f"@{DIRECTORY}/data"], ["-T", DIRECTORY / "data", "-H", "Transfer-Encoding: chunked"],
                      ["-T", DIRECTORY / "data", "-H", "Expect: 100-continue"], ["-T", DIRECTORY / "data", "--http1.0"]):
        out = how.to_end("curl", "-sS", *arguments, f"{receiver.base}/upload/{len(arguments)}")
        must(out.decode() == hashlib.sha256(data).hexdigest(), f"curl {arguments}: the sum differs")


def curl_big(how, receiver, _):
    block = bytes(range(256)) * 256
    with open(DIRECTORY / "big", "wb") as file:
        for _ in range(BIG):
            file.write(block)
    want = hashlib.sha256(block * BIG).hexdigest()
    must(how.to_end("curl", "-sS", "-T", DIRECTORY / "big", f"{receiver.base}/upload/big").decode() == want, "upload")
    must(hashlib.sha256(how.to_end("curl", "-sS", f"{receiver.base}/big/{BIG}")).hexdigest() == want, "download")


def curl_streams(how, receiver, count):
    out = how.to_end("curl", "-sSN", f"{receiver.base}/stream/{count * 10}")
    must(out == b"".join(b"%8d" % number for number in range(count * 10)), "the stream differs")
    slow = "import time\nfor number in range(100): print(number, flush=True); time.sleep(0.02)"
    source = subprocess.Popen([sys.executable, "-c", slow], stdout=subprocess.PIPE)
    out = how.to_end("curl", "-sS", "-T", "-", f"{receiver.base}/upload/slow", stdin=source.stdout)
    source.wait()
    must(out.decode() == hashlib.sha256(b"".join(b"%d\n" % number for number in range(100))).hexdigest(), "slow upload")


def wget(how, receiver, count):
    urls = [f"{receiver.base}/download/{number}" for number in range(count)]
    out = how.to_end("wget", "-q", "-O", "-", *urls)
    must(out == b"".join(bytes(range(256)) * 1024 + str(number).encode() for number in range(count)), "a download differs")


def load(port, threads, each):
    """Requests with an id in their path through a proxy, by `threads` clients with kept connections."""
    faults = []

    def one(thread):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            for number in range(each):
                connection.request("GET", f"/get/{thread}-{number}")
                answer = connection.getresponse()
                if (answer.status, answer.read()) != (200, b"ok"):
                    faults.append(f"status {answer.status}")
                body = bytes([number % 256]) * 70000
                connection.request("POST", f"/upload/{thread}-{number}", body=body)
                answer = connection.getresponse()
                if answer.read().decode() != hashlib.sha256(body).hexdigest():
                    faults.append(f"an upload differs, status {answer.status}")
        except (OSError, http.client.HTTPException) as error:
            faults.append(repr(error))

    workers = [threading.Thread(target=one, args=(thread,)) for thread in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    must(not faults, f"{len(faults)} errors: {faults[:3]}")


def through(how, port, count, *command):
    process = how.server(*command, port=port)
    try:
        for threads in (1, 8, 64):
            load(port, threads, max(2, count // 4))
    finally:
        process.terminate()
        process.wait(20)


def nginx(keepalive):
    def run(how, receiver, count):
        port = free_port()
        kept = 'keepalive 16;' if keepalive else ''
        version = 'proxy_http_version 1.1; proxy_set_header Connection "";' if keepalive else ''
        configuration = DIRECTORY / "nginx.conf"
        configuration.write_text(f"""
            daemon off; master_process on; worker_processes 2; pid {DIRECTORY}/nginx.pid; error_log stderr crit; user root;
            events {{}}
            http {{ access_log off; client_body_temp_path {DIRECTORY}/body; proxy_temp_path {DIRECTORY}/proxy;
                fastcgi_temp_path {DIRECTORY}/f; uwsgi_temp_path {DIRECTORY}/u; scgi_temp_path {DIRECTORY}/s; sendfile on;
                upstream receiver {{ server 127.0.0.1:{receiver.port}; {kept} }}
                server {{ listen 127.0.0.1:{port} backlog=1024;
                    location / {{ proxy_pass http://receiver; {version} client_body_buffer_size 8k; }} }} }}""")
        through(how, port, count, "nginx", "-c", configuration)
    run.needs = "nginx"
    return run


def haproxy(how, receiver, count):
    port = free_port()
    configuration = DIRECTORY / "haproxy.cfg"
    configuration.write_text(f"""
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    option splice-auto
    option splice-request
    option splice-response
    http-reuse always
listen proxy
    bind 127.0.0.1:{port}
    server receiver 127.0.0.1:{receiver.port}
""")
    through(how, port, count, "haproxy", "-f", configuration)


def go(how, receiver, count):
    binary = DIRECTORY / "client-go"
    if not binary.exists():
        subprocess.run(["go", "build", "-o", binary, HERE / "clients/client.go"], check=True, env={**os.environ, "GOFLAGS": "-mod=mod"})
    how.to_end(binary, receiver.base, count)


CLIENTS = {
    "curl": curl, "curl-100MB": curl_big, "curl-streams": curl_streams, "wget": wget,
    "nginx-kept": nginx(True), "nginx-each": nginx(False), "haproxy": haproxy,
    "python": program(sys.executable, HERE / "clients/httpclient.py"),
    "requests": program(VENV, HERE / "clients/requests_.py"),
    "httpx": program(VENV, HERE / "clients/httpx_.py"),
    "aiohttp": program(VENV, HERE / "clients/aiohttp_.py"),
    "node-http": program("node", HERE / "clients/http.js"),
    "node-fetch": program("node", HERE / "clients/fetch.js"),
    "java": program("java", HERE / "clients/Client.java"),
    "go": go,
    "ruby": program("ruby", HERE / "clients/client.rb"),
    "php-curl": program("php", HERE / "clients/client.php"),
    "websocket": program(sys.executable, HERE / "clients/websocket.py"),
}
for name in ("curl", "wget", "haproxy", "go"):
    CLIENTS[name].needs = name
curl_big.needs = curl_streams.needs = "curl"


def compare(bare, traced, receiver):
    """(requests, with a header); raises where anything else differs."""
    def plain(head):
        return re.sub(r"127\.0\.0\.1:\d+", "HOST", head)

    left = {}
    for _, _, head in bare:
        left.setdefault(plain(head), []).append(1)
    have, upgrades = 0, 0
    for connection, index, head in traced:
        stripped, lines = LINE.subn("", head)
        must(lines <= 1 and "traceparent" not in stripped, f"more than one line: {head!r}")
        match = LINE.search(head)
        must(not match or head.endswith(match[0] + "\r\n"), f"not at the end: {head!r}")
        upgrades += "Upgrade:" in head
        must(lines or index or "Upgrade:" in head, f"the first request of connection {connection} has none: {head[:80]!r}")
        have += lines
        must(left.get(plain(stripped)), f"no such head without spanwire: {head[:300]!r}")
        left[plain(stripped)].pop()
    missing = sum(map(len, left.values()))
    must(not missing, f"{missing} requests did not arrive")
    return len(traced), have, upgrades


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--claim", default="auto", choices=["auto", "lasting", "brief"])
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    need_root(len(CLIENTS))
    receiver = Receiver()
    failed = skipped = 0
    for name, client in CLIENTS.items():
        if arguments.names and name not in arguments.names:
            continue
        if not shutil.which(client.needs):
            print(f"skip    {name}: {client.needs} is not there")
            skipped += 1
            continue
        try:
            begun = time.monotonic()
            client(Run(None), receiver, arguments.count)
            bare, between = receiver.records(), time.monotonic()
            client(Run(arguments.claim), receiver, arguments.count)
            requests, have, upgrades = compare(bare, receiver.records(), receiver)
            rest = f", {upgrades} upgraded" if upgrades else ""
            print(f"ok      {name}: {requests} requests, {have} with a header{rest}; {between - begun:.1f} s, then {time.monotonic() - between:.1f} s", flush=True)
        except (Failed, subprocess.TimeoutExpired) as fault:
            failed += 1
            print(f"FAILED  {name}: {fault}", flush=True)
            receiver.records()
    print(f"{len(CLIENTS)} clients, {failed} failed, {skipped} skipped; claim: {arguments.claim}")
    return 1 if failed else 3 if skipped == len(CLIENTS) else 0


if __name__ == "__main__":
    sys.exit(main())
