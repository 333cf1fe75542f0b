"""A kubelet's part: a container is a process that serves HTTP on loopback, in a cgroup with the name that a kubelet gives."""
import contextlib
import http.client
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

from control_plane import ends_with_us

SERVICE = Path(__file__).resolve().parent / "service.py"


def hierarchy(version=2):
    """Where the cgroups are: of v2, or of v1 by the controller that names processes for the longest time."""
    rows = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    if version == 2:
        return Path(next(row[1] for row in rows if row[2] == "cgroup2"))
    return next((Path(row[1]) for row in rows if row[2] == "cgroup" and "pids" in row[3].split(",")), None)


def systemd_driver(uid, identity, quality="burstable", runtime="cri-containerd"):
    kind = f"-{quality}" if quality else ""
    above = f"kubepods.slice/kubepods{kind}.slice" if quality else "kubepods.slice"
    return f"{above}/kubepods{kind}-pod{uid.replace('-', '_')}.slice/{runtime}-{identity}.scope"


def cgroupfs_driver(uid, identity, quality="besteffort"):
    return f"kubepods/{f'{quality}/' if quality else ''}pod{uid}/{identity}"


class Groups:
    """cgroups that are gone at the end, with the directories above them that were not there before."""

    def __init__(self):
        self.made = []

    def make(self, path, version=2):
        at = hierarchy(version)
        for part in Path(path).parts:
            at = at / part
            if not at.exists():
                at.mkdir()
                self.made.append(at)
        return at

    def close(self):
        left = []
        deadline = time.monotonic() + 5
        for path in reversed(self.made):
            while path.exists():
                with contextlib.suppress(OSError):
                    path.rmdir()
                    break
                if time.monotonic() > deadline:
                    left.append(str(path))
                    break
                time.sleep(0.02)  # a process that has ended leaves a moment later
        self.made.clear()
        return left


class Container:
    """A process in a cgroup, from its first instruction on."""

    def __init__(self, group, environment=None, arguments=()):
        self.group = group
        def enter():
            ends_with_us()
            with open(group / "cgroup.procs", "w") as file:
                file.write("0")

        clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "KUBE"))}
        self.process = subprocess.Popen([sys.executable, SERVICE, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        env={**clean, **(environment or {})}, preexec_fn=enter)
        self.pid = self.process.pid
        self.port = int(self.process.stdout.readline())

    def ask(self, path):
        call = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            call.request("GET", path)
            call.getresponse().read()
        finally:
            call.close()

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def identity():
    return secrets.token_hex(32)
