"""One running spanwire, for the Python rigs: start it, read its spans, its metrics and its log, end it."""
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BINARY = os.environ.get("SPANWIRE_BINARY", str(ROOT / "target/release/spanwire"))
# Where the CPU is emulated, verifying alone takes half a minute: tests/vm/run allows more.
START = float(os.environ.get("RIG_START_SECONDS", "60"))


def need_root(count):
    """Ends with 3, and the number of tests that this skips."""
    if os.geteuid():
        print(f"skipped {count} tests: loading BPF needs root")
        sys.exit(3)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Tracer:
    """`spanwire run ARGUMENTS`, ready when this returns. `settings` are `--set KEY=VALUE`; spans go to a file."""

    def __init__(self, *arguments, binary=None, settings=None, environment=None, command=(), printer="json", prefix=()):
        self.directory = tempfile.mkdtemp(prefix="spanwire-rig-")
        self.output = Path(self.directory, "spans")
        self.log = Path(self.directory, "log")
        self.port = free_port()
        settings = {"internal_metrics.prometheus.port": self.port, **(settings or {})}
        line = [*prefix, binary or BINARY, "run", "--print", printer, *arguments]
        for key, value in settings.items():
            line += ["--set", f"{key}={value}"]
        self.process = subprocess.Popen(
            line + (["--", *command] if command else []), stdin=subprocess.DEVNULL,
            stdout=open(self.output, "wb"), stderr=open(self.log, "wb"), env={**os.environ, **(environment or {})})
        deadline = time.monotonic() + START
        while b"Ready" not in self.log.read_bytes():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                sys.exit(f"spanwire does not start: {self.log.read_text()}")
            time.sleep(0.02)

    def spans(self):
        """What was printed so far; the last line may still be on its way."""
        lines = self.output.read_text().split("\n")
        return [json.loads(line) for line in lines[:-1] if line]

    def metrics(self):
        """{'name{label="value"}': number} of the metrics port."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/internal/metrics", timeout=5) as answer:
            text = answer.read().decode()
        rows = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in rows}

    def resident_kib(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def kill(self):
        """As the kernel's memory killer does: nothing is cleaned up."""
        self.process.kill()
        self.process.wait()

    def finish(self, settle=0.3):
        """Ends it as systemd does; all its spans."""
        time.sleep(settle)
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(15)
        return self.spans()
