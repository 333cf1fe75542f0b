#!/usr/bin/env python3
"""What writing headers costs an nginx that is a proxy: its own CPU a request, bare, traced and injecting in turn.

    tests/benches/proxy.py [--rounds N] [--seconds S] [--only NAME]

wrk or h2load -> nginx (one worker, measured) -> nginx (not traced). CPU is what the scheduler says the worker used
(/proc/PID/schedstat), hooks and the kernel's work for it included; p99 is wrk's. Every round takes all three
in turn, the ratio is of neighbours in time.
"""
import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from lib.tracer import Tracer, free_port, need_root  # noqa: E402

COMMON = """
worker_processes 1; daemon off; pid {0}/pid; error_log {0}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; sendfile on;
  client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;
"""
SERVER = COMMON + """
  server {{ listen 127.0.0.1:{1} backlog=4096; location / {{ return 200 "hello world\\n"; }} location /big {{ root {0}; }} }}
  server {{ listen 127.0.0.1:{2} backlog=4096 http2; location / {{ return 200 "hello world\\n"; }} }}
}}
"""
PROXY = COMMON + """
  upstream fresh {{ server 127.0.0.1:{2}; }}
  upstream kept {{ server 127.0.0.1:{2}; keepalive 64; }}
  upstream streams {{ server 127.0.0.1:{3}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{1} backlog=4096;
    location /fresh/ {{ proxy_pass http://fresh/; }}
    location /kept/ {{ proxy_pass http://kept/; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
  server {{ listen 127.0.0.1:{4} backlog=4096 http2; location / {{ grpc_pass grpc://streams; }} }}
}}
"""
CASES = {"a connection each": "/fresh/", "kept alive": "/kept/", "1 MiB answers": "/kept/big", "HTTP/2": "/streams"}


class Nginx:
    def __init__(self, template, *more):
        self.directory = Path(tempfile.mkdtemp(prefix="spanwire-bench-"))
        self.directory.chmod(0o755)
        self.port, self.http2_port = free_port(), free_port()
        (self.directory / "big").write_bytes(b"x" * (1 << 20))
        (self.directory / "conf").write_text(template.format(self.directory, self.port, *more, self.http2_port))
        self.process = subprocess.Popen(["nginx", "-c", str(self.directory / "conf"), "-e", str(self.directory / "start.log")])
        time.sleep(0.5)
        self.worker = int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[0])

    def used(self):
        return int(Path(f"/proc/{self.worker}/schedstat").read_text().split()[0])

    def stop(self):
        self.process.terminate()
        self.process.wait()


def load(proxy, path, seconds, connections=16):
    """(CPU of the proxy in us a request, p99 in us, requests, failed)"""
    before = proxy.used()
    if path == CASES["HTTP/2"]:
        out = subprocess.run(["h2load", "-c4", "-m4", f"-D{seconds}", f"http://127.0.0.1:{proxy.http2_port}{path}"],
                             capture_output=True, text=True, check=True).stdout
        requests, failed = (int(re.search(rf"(\d+) {word}", out).group(1)) for word in ("succeeded", "failed"))
        return (proxy.used() - before) / max(requests, 1) / 1000, None, requests, failed
    out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency", f"http://127.0.0.1:{proxy.port}{path}"],
                         capture_output=True, text=True, check=True).stdout
    requests = int(re.search(r"(\d+) requests in", out).group(1))
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", out).groups()
    failed = sum(int(n) for n in re.findall(r"(?:connect|read|write|timeout|responses:) (\d+)", out))
    p99 = float(number) * {"us": 1, "ms": 1000, "s": 1e6}[unit]
    return (proxy.used() - before) / max(requests, 1) / 1000, p99, requests, failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--only", choices=["fresh", "kept", "big", "streams"])
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    need_root(len(CASES))
    server = Nginx(SERVER)
    proxy = Nginx(PROXY, server.port, server.http2_port)
    extra = dict(item.split("=", 1) for item in arguments.set)
    wrong = 0
    try:
        for name, path in CASES.items():
            if arguments.only and arguments.only not in path:
                continue
            load(proxy, path, 1)
            cpu, p99, share = {"traced": [], "injecting": []}, {"traced": [], "injecting": []}, []
            for _ in range(arguments.rounds):
                bare = load(proxy, path, arguments.seconds)
                for kind, mode in (("traced", "disabled"), ("injecting", "headers")):
                    tracer = Tracer("--pid", str(proxy.worker), printer="counter",
                                    settings={"ebpf.context_propagation": mode, **extra})
                    time.sleep(0.3)
                    result = load(proxy, path, arguments.seconds)
                    if mode == "headers":
                        counts = tracer.metrics()
                        done = counts['spanwire_kernel_events_total{event="inject_done"}']
                        share.append(done / max(result[2], 1))
                    tracer.finish(0)
                    cpu[kind].append(result[0] / bare[0])
                    if result[1]:
                        p99[kind].append(result[1] / bare[1])
                    wrong += result[3]
            print(f"{name}: bare {bare[0]:.1f} us a request, {bare[2] / arguments.seconds:.0f} a second")
            for kind in cpu:
                tail = f", p99 {statistics.median(p99[kind]):.3f}" if p99[kind] else ""
                print(f"  {kind:<10} CPU {statistics.median(cpu[kind]):.3f} ({min(cpu[kind]):.3f} to {max(cpu[kind]):.3f}){tail}")
            print(f"  requests with a header: {statistics.median(share):.1%}")
        print(f"requests that failed: {wrong}")
        return 1 if wrong else 0
    finally:
        proxy.stop()
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
