#!/usr/bin/env python3
"""spanwire comes and goes under load: killed, stopped, started again, reloaded, two at once.

    tests/propagation/lifetime.py [--claim auto|lasting|brief] [--seconds N]

A client process with 16 threads (--threads), half of them on kept connections that live as long as the test, sends requests
with an id in their path and bodies with a checksum. In every phase: no error, no altered body, no request of more
than two seconds, and what arrives has at most one header, which is valid.
"""
import argparse
import atexit
import hashlib
import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))
from clients import LINE, Receiver  # noqa: E402
from lib import progs  # noqa: E402
from lib.tracer import BINARY, Tracer, need_root  # noqa: E402


def load(port, clients):
    """Sends until its standard input ends, then tells what happened."""
    stop, total = threading.Event(), {"requests": 0, "errors": [], "slowest": 0.0}
    lock = threading.Lock()

    def one(thread):
        kept, count, slowest, errors = thread % 2 == 0, 0, 0.0, []
        connection = None
        while not stop.is_set():
            begun = time.monotonic()
            body = bytes([count % 251]) * (20000 if count % 8 == 0 else 300)
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                connection.request("POST", f"/upload/{thread}-{count}", body=body)
                answer = connection.getresponse()
                if answer.read().decode() != hashlib.sha256(body).hexdigest():
                    errors.append(f"{thread}-{count}: an altered body, status {answer.status}")
                if not kept:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                errors.append(f"{thread}-{count}: {error!r}")
                connection = None
            slowest = max(slowest, time.monotonic() - begun)
            count += 1
            time.sleep(0.002)
        with lock:
            total["requests"] += count
            total["errors"] += errors
            total["slowest"] = max(total["slowest"], slowest)

    threads = [threading.Thread(target=one, args=(thread,)) for thread in range(clients)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    print(json.dumps(total))


def left_behind():
    """What of spanwire the kernel holds."""
    return sum(one.name in ("on_message", "on_sockops", "tp_exec") for one in progs.loaded())


class Phases:
    def __init__(self, receiver, process, claim):
        self.receiver, self.process, self.faults = receiver, process, 0
        self.file = Path(subprocess.run(["mktemp"], capture_output=True, text=True).stdout.strip())
        atexit.register(self.file.unlink)
        self.claim = claim
        self.write("headers")

    def write(self, mode):
        self.file.write_text(f"target_pids: {self.process.pid}\nspanwire: {{claim: {self.claim}}}\nebpf: {{context_propagation: {mode}}}\n"
                             "otel_traces_export: {sampler: {name: always_off}}\n")

    def start(self):
        return Tracer("--config", str(self.file), printer="text")

    def fault(self, text):
        self.faults += 1
        print(f"FAILED  {text}", flush=True)

    def told(self, name, most=None, least=None):
        """Checks what arrived since the last call: the shares of requests with a header that are allowed."""
        records = self.receiver.records()
        have = lines = 0
        for _, _, head in records:
            found = len(LINE.findall(head))
            have += found == 1
            lines += head.lower().count("traceparent")
            if found > 1 or head.lower().count("traceparent") != found:
                self.fault(f"{name}: {head!r}")
        share = have / max(len(records), 1)
        print(f"        {name}: {len(records)} requests, {share:.1%} with a header", flush=True)
        if not records or (most is not None and share > most) or (least is not None and share < least):
            self.fault(f"{name}: {share:.1%} is not in what was expected")

    def during(self, name, seconds, **expected):
        self.receiver.records()
        time.sleep(seconds)
        self.told(name, **expected)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--claim", default="lasting", choices=["auto", "lasting", "brief"])
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=16)
    arguments = parser.parse_args()
    need_root(1)
    # Half the threads connect for each request; the others are had only where connections stay claimed.
    some = {"least": 0.9} if arguments.claim == "lasting" else {"least": 0.2}
    before, receiver = left_behind(), Receiver()
    process = subprocess.Popen([sys.executable, __file__, "--load", str(receiver.port), str(arguments.threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    atexit.register(process.kill)
    phases = Phases(receiver, process, arguments.claim)
    begun = time.monotonic()
    while not receiver.records() and time.monotonic() < begun + 60:
        time.sleep(0.1)
    try:
        phases.during("without", arguments.seconds, most=0)
        tracer = phases.start()
        time.sleep(1.5)
        phases.during("started", arguments.seconds, **some)
        live = json.loads(subprocess.run([BINARY, "check", "--live", "--json"], capture_output=True, check=True).stdout)
        if not any(one["injects"] and one["counters"]["inject_done"] > 0 for one in live):
            phases.fault(f"`check --live` does not tell of it: {live}")
        if left_behind() < before + 3:
            phases.fault("its programs are not found in the kernel")
        tracer.kill()
        time.sleep(0.2)
        phases.during("killed", arguments.seconds, most=0)
        tracer = phases.start()
        time.sleep(1.5)
        phases.during("started again", arguments.seconds, **some)
        for number in range(10):
            phases.write("disabled" if number % 2 == 0 else "headers")
            tracer.reload()
            time.sleep(0.3)
        phases.told("reloaded ten times")
        time.sleep(1)
        phases.during("switched on again", arguments.seconds, **some)
        second = phases.start()
        phases.during("two at once", arguments.seconds, **some)
        second.finish(0)
        time.sleep(0.2)
        phases.during("the second ended", arguments.seconds, least=0.2)
        tracer.process.send_signal(signal.SIGTERM)
        tracer.process.wait(15)
        time.sleep(0.2)
        phases.during("ended", arguments.seconds, most=0)
        for _ in range(5):
            tracer = phases.start()
            time.sleep(0.2)
            tracer.kill()
        phases.told("killed five times")
        phases.during("at last", arguments.seconds, most=0)
    finally:
        process.stdin.close()
        total = json.loads(process.stdout.read())
    print(f"{total['requests']} requests, {len(total['errors'])} errors, the slowest took {total['slowest']:.2f} s")
    if total["errors"] or total["slowest"] > 2:
        phases.fault("; ".join(total["errors"][:5]) or "a request stalled")
    time.sleep(1)
    after = left_behind()
    if after > before:
        phases.fault(f"{after - before} programs are left in the kernel")
    return bool(phases.faults)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--load"]:
        load(int(sys.argv[2]), int(sys.argv[3]))
    else:
        sys.exit(main())
