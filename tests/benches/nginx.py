#!/usr/bin/env python3
"""What tracing costs a busy nginx: its own CPU a request, bare and traced in turn, and BPF's share.

    tests/benches/nginx.py SPANWIRE [ROUNDS] [--http2 | --page]

One worker, wrk with 16 kept-alive connections, or h2load with four of sixteen streams each. Answers are 12 bytes from memory and nothing is
logged, the least that nginx can do; with --page they are a file of 612 bytes and each is logged, as with the package's own settings. CPU is
what the scheduler says the worker used (/proc/PID/schedstat), which counts hooks and the kernel's work for it.
"""
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from lib.progs import of_process  # noqa: E402

CONF = """
worker_processes 1; daemon off; pid {0}/pid; error_log {0}/error.log;
events {{ worker_connections 1024; }}
http {{
  {3} keepalive_requests 100000000;
  client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;
  server {{ listen 127.0.0.1:{1}{2}; location / {{ {4} }} }}
}}
"""
PORT = 21999
HTTP2, PAGE = "--http2" in sys.argv, "--page" in sys.argv


def load(worker, seconds=3):
    used = lambda: int(Path(f"/proc/{worker}/schedstat").read_text().split()[0])
    before = used()
    url = f"http://127.0.0.1:{PORT}/"
    command = ["h2load", "-c4", "-m16", f"-D{seconds}", url] if HTTP2 else ["wrk", "-t1", "-c16", f"-d{seconds}", url]
    out = subprocess.run(command, capture_output=True, text=True)
    requests = int(re.search(r"(\d+) succeeded" if HTTP2 else r"(\d+) requests in", out.stdout).group(1))
    return requests, (used() - before) / requests / 1000


def traced(binary, scratch):
    log = open(scratch / "spanwire.log", "wb")
    process = subprocess.Popen([binary, "run", "--port", str(PORT), "--endpoint", "http://127.0.0.1:9", "--protocol",
                                "http/protobuf", "--print", "counter"], stdout=subprocess.DEVNULL, stderr=log)
    while b"Ready" not in (scratch / "spanwire.log").read_bytes():
        time.sleep(0.05)
        if process.poll() is not None:
            sys.exit((scratch / "spanwire.log").read_text())
    return process


def stop(process):
    process.send_signal(signal.SIGTERM)
    process.wait()


def bpf_nanoseconds(process):
    return {name: one.nanoseconds for name, one in of_process(process.pid).items()}


def main():
    binary, *rounds = (word for word in sys.argv[1:] if not word.startswith("--"))
    rounds = int(rounds[0]) if rounds else 5
    scratch = Path(tempfile.mkdtemp(prefix="spanwire-bench-"))
    (scratch / "index.html").write_text("x" * 612)
    scratch.chmod(0o755)
    logs = f"sendfile on; tcp_nopush on; access_log {scratch}/access.log;" if PAGE else "access_log off;"
    answers = f"root {scratch};" if PAGE else 'return 200 "hello world\\n";'
    (scratch / "conf").write_text(CONF.format(scratch, PORT, " http2" if HTTP2 else "", logs, answers))
    nginx = subprocess.Popen(["nginx", "-c", str(scratch / "conf"), "-e", str(scratch / "start.log")])
    try:
        time.sleep(0.5)
        worker = int(Path(f"/proc/{nginx.pid}/task/{nginx.pid}/children").read_text().split()[0])
        load(worker, 1)
        ratios, own = [], []
        for _ in range(rounds):
            _, bare = load(worker)
            process = traced(binary, scratch)
            ticks = lambda: sum(int(x) for x in Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13])
            before = ticks()
            requests, with_us = load(worker)
            own.append((ticks() - before) * 10_000 / requests)
            stop(process)
            ratios.append(with_us / bare)
            print(f"  nginx CPU a request: bare {bare:.2f} us, traced {with_us:.2f} us, ratio {with_us / bare:.3f}; "
                  f"spanwire {own[-1]:.2f} us a span")
        print(f"nginx CPU, traced / bare: median {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
        print(f"spanwire CPU a span: median {statistics.median(own):.2f} us (the collector is away: queue and drop)")
        subprocess.run(["sysctl", "-q", "kernel.bpf_stats_enabled=1"], check=False)
        process = traced(binary, scratch)
        before = bpf_nanoseconds(process)
        requests, _ = load(worker)
        after = bpf_nanoseconds(process)
        stop(process)
        total = sum(after.get(name, 0) - before.get(name, 0) for name in after) / requests
        print(f"BPF run time a request, all hooks, the load's calls included: {total:.0f} ns")
    finally:
        subprocess.run(["sysctl", "-q", "kernel.bpf_stats_enabled=0"], check=False)
        nginx.terminate()
        nginx.wait()
        shutil.rmtree(scratch)  # a log of a million lines may be in it


if __name__ == "__main__":
    main()
