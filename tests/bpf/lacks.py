#!/usr/bin/env python3
"""Where something lacks, exactly what needs it is off: capabilities of a user that is nobody, mounts of a container, quiet.

    tests/bpf/lacks.py
"""
import http.client
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from lib.tracer import BINARY, need_root  # noqa: E402

NEEDED = ("bpf", "perfmon", "sys_ptrace", "dac_read_search", "net_admin")
headers = {}


def nobody(without=None):
    kept = ",".join(["-all", *(f"+{name}" for name in NEEDED if name != without)])
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", f"--bounding-set={kept}", f"--inh-caps={kept}", f"--ambient-caps={kept}"]


def mounts(change):
    return ["unshare", "-m", "sh", "-ec", f'{change}; exec "$@"', "sh"]


def gone(place):
    """Whatever is mounted there and below, and what the kernel itself offers there."""
    return mounts(f"[ ! -d {place} ] || {{ umount -R -l {place} 2>/dev/null || :; mount -t tmpfs -o ro none {place}; }}")


# Each interrupts the verifier.
SIGNALS = """(for _ in $(seq 12); do sleep 0.05; kill -STOP $$; sleep 0.005; kill -CONT $$; done) & exec "$@" """

ALL, NOTHING = (True, True, True), (False, False, False)
# What lacks: how that is made; does it run, are there spans of another user's process, is there a header; what `check` says.
CASES = {
    "root": (nobody(), ALL, ("capabilities", "all that are needed")),
    "CAP_BPF": (nobody("bpf"), NOTHING, ("capabilities", "CAP_BPF")),
    "CAP_PERFMON": (nobody("perfmon"), NOTHING, ("capabilities", "CAP_PERFMON")),
    "CAP_SYS_PTRACE": (nobody("sys_ptrace"), (True, False, False), ("capabilities", "CAP_SYS_PTRACE")),
    "CAP_DAC_READ_SEARCH": (nobody("dac_read_search"), ALL, ("capabilities", "CAP_DAC_READ_SEARCH")),
    "CAP_NET_ADMIN": (nobody("net_admin"), (True, True, False), ("capabilities", "CAP_NET_ADMIN")),
    "cgroups": (gone("/sys/fs/cgroup"), (True, True, False), ("propagation", "cgroup")),
    "tracefs": (gone("/sys/kernel/tracing"), ALL, ("tracing", "")),
    "debugfs": (gone("/sys/kernel/debug"), ALL, ("tracing", "")),
    "securityfs": (gone("/sys/kernel/security"), ALL, ("lockdown", "not visible")),
    "bpffs": (gone("/sys/fs/bpf"), ALL, ("tracing", "")),
    "BTF": (gone("/sys/kernel/btf"), NOTHING, ("btf", "No such file")),
    "a root that can be written": (mounts("mount --bind / / && mount -o remount,ro,bind /"), ALL, ("tracing", "")),
    "quiet": (["sh", "-c", SIGNALS, "sh"], ALL, ("tracing", "")),
}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        headers[self.path] = self.headers["traceparent"]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def found(binary, port, number, prefix):
    """((runs, spans, header), what `check` says by feature)"""
    out = tempfile.TemporaryFile("w+")
    said = subprocess.run([*prefix, binary, "check", "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    tracer = subprocess.Popen([*prefix, binary, "run", "--exe", os.path.realpath(sys.executable), "--print", "json",
                               "--set", "ebpf.context_propagation=headers"], stdout=out, stderr=subprocess.PIPE, text=True)
    lines = iter(tracer.stderr.readline, "")
    runs = any("Ready" in line for line in lines)
    threading.Thread(target=lambda: [None for _ in lines], daemon=True).start()
    time.sleep(0.3)
    call = http.client.HTTPConnection("127.0.0.1", port)
    call.request("GET", f"/lacks-{number}-")
    call.getresponse().read()
    call.close()
    time.sleep(0.5)
    tracer.terminate()
    tracer.wait(15)
    out.seek(0)
    spans = [line for line in out.read().splitlines() if f"/lacks-{number}-" in line]
    return (runs, len(spans) == 2, bool(headers[f"/lacks-{number}-"])), {one["feature"]: one["detail"] for one in json.loads(said or "[]")}


def main():
    need_root(len(CASES))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    failed = skipped = 0
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        binary = shutil.copy(BINARY, directory)
        os.chmod(binary, 0o755)
        for number, (name, (prefix, expected, (feature, phrase))) in enumerate(CASES.items()):
            if not shutil.which(prefix[0]):
                print(f"skip   without {name}: {prefix[0]} is not there")
                skipped += 1
                continue
            got, said = found(binary, server.server_port, number, prefix)
            fine = got == expected and phrase in said.get(feature, "nothing")
            failed += not fine
            print(f"{'ok    ' if fine else 'FAILED'} without {name}: runs, spans, header: {got}; check: {said.get(feature)}")
    print(f"{len(CASES)} tests, {failed} failed, {skipped} skipped")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
