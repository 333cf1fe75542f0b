#!/usr/bin/env python3
"""Inside a guest with systemd: the life of the package, from its installation to its removal.

    tests/packages/guest.py deb|rpm COLLECTOR_PORT SPANS_PORT PACKAGE NEWER_PACKAGE [CASE...]
"""
import http.client
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

KIND, COLLECTOR, SPANS, PACKAGE, NEWER = sys.argv[1:6]
ONLY = sys.argv[6:]
HOST, UNIT, PORT = "10.0.2.2", "spanwire.service", 8000
CONFIG, DROP_IN = Path("/etc/spanwire/spanwire.yaml"), Path("/etc/systemd/system/spanwire.service.d/test.conf")
ENVIRONMENT = Path({"deb": "/etc/default/spanwire", "rpm": "/etc/sysconfig/spanwire"}[KIND])
# Of a user's own, in a directory that others cannot enter.
HOME = Path("/home/shop")
EXECUTABLE = HOME / "bin/python3"
# The interpreter by the name that a process is taken for Ruby by.
RUBY = HOME / "bin/ruby"
CAPABILITIES = {39: "bpf", 38: "perfmon", 19: "sys_ptrace", 2: "dac_read_search", 12: "net_admin"}
TEXT = f"""discovery:
  instrument: [{{exe_path: '{HOME}/bin/*'}}]
ebpf:
  context_propagation: headers
otel_traces_export:
  common_endpoint: http://{HOST}:{COLLECTOR}
"""
numbers = itertools.count(1)


def run(*command, fails=False):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert fails is None or bool(done.returncode) == fails, f"{' '.join(command)} ends with {done.returncode}: {done.stdout}"
    return done.stdout.strip()


def show(name):
    return run("systemctl", "show", "-P", name, UNIT)


def until(what, seconds=60):
    """The first true value of it."""
    deadline = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < deadline, f"not within {seconds} s; {journal()[-1500:]}"
        time.sleep(0.5)
    return value


def journal(*arguments):
    return run("journalctl", "--no-pager", "-q", "-u", UNIT, *arguments)


def get(path, port=PORT):
    call = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    call.request("GET", path)
    answer = call.getresponse().read().decode()
    call.close()
    return answer


def spans(path):
    """What the collector got of a path: {(kind, path): span}"""
    return {(span["kind"], path_of(span).partition("?")[0]): span for span in everything(path)}


def path_of(span):
    return (span["attributes"].get("url.path") or span["attributes"].get("url.full"))[1]


def everything(path):
    """What the collector got of paths that end so."""
    with urllib.request.urlopen(f"http://{HOST}:{SPANS}/spans", timeout=30) as answer:
        lines = [json.loads(line) for line in answer.read().decode().split("\n")[:-1]]
    return [span for span in lines if path_of(span).endswith(path)]


def traced(headers=True, joined=True):
    """Two services, of which one calls the other: three spans arrive, linked, and the header is theirs. Unless `joined`, the
    second service's may have no parent (docs/ARCHITECTURE.md, tier C before 6.16), but not a wrong one."""
    path = f"/{KIND}-{os.uname().release}-{next(numbers)}"
    header = get(f"/hop{path}")
    found = until(lambda: (got := spans(path)) and len(got) == 3 and got)
    entry, call, inner = sorted(found.values(), key=lambda span: span["start"])
    assert (entry["kind"], call["kind"], inner["kind"]) == (2, 3, 2), found
    assert not entry["parent_span_id"] and call["parent_span_id"] == entry["span_id"], found
    alone = not joined and not inner["parent_span_id"]
    assert alone or inner["parent_span_id"] == call["span_id"], found
    assert len({span["trace_id"] for span in (entry, call, *(() if alone else (inner,)))}) == 1, found
    assert header.split("-")[1:3] == ([call["trace_id"], call["span_id"]] if headers else []), f"header {header}, spans {found}"


def install(package):
    return run(*{"deb": ("dpkg", "--force-confdef", "-i"), "rpm": ("rpm", "-U", "--nodeps")}[KIND], package)


def files():
    listed = run(*{"deb": ("dpkg", "-L", "spanwire"), "rpm": ("rpm", "-ql", "spanwire")}[KIND]).splitlines()
    return [Path(one) for one in listed if Path(one).is_file()]


def drop_in(text):
    DROP_IN.parent.mkdir(parents=True, exist_ok=True)
    DROP_IN.write_text(f"[Service]\n{text}\n")
    run("systemctl", "daemon-reload")


def undo_drop_in():
    shutil.rmtree(DROP_IN.parent)
    run("systemctl", "daemon-reload")


def installed():
    """Installed: not enabled, not running, nothing of it can be written by others"""
    install(PACKAGE)
    assert run("systemctl", "is-enabled", UNIT, fails=True) == "disabled"
    assert run("systemctl", "is-active", UNIT, fails=True) == "inactive"
    modes = {one: (one.stat().st_mode & 0o777, one.stat().st_uid, one.stat().st_gid) for one in files()}
    assert Path("/usr/bin/spanwire") in modes and CONFIG in modes and ENVIRONMENT in modes, modes
    for secret in (CONFIG, ENVIRONMENT):  # they may carry tokens
        assert modes[secret] == (0o640, 0, 0), (secret, modes[secret])
    assert not [one for one, (mode, user, group) in modes.items() if mode & 0o022 or user or group], modes
    assert re.match(r"spanwire \d", run("spanwire", "version"))
    assert run("systemd-analyze", "verify", "--man=no", UNIT) == ""


def unconfigured():
    """Unconfigured: it does not start, says why, and is not tried again"""
    run("systemctl", "start", UNIT, fails=True)
    time.sleep(8)
    assert (show("ActiveState"), show("ExecMainStatus"), show("NRestarts")) == ("failed", "2", "0"), run("systemctl", "status", UNIT, fails=None)
    assert "nothing to trace" in journal(), journal()


def configured():
    """Configured: active when the hooks are, a trace with a header arrives"""
    CONFIG.write_text(TEXT)
    run("systemctl", "start", UNIT)
    assert show("ActiveState") == "active"
    traced()


def handed():
    """Requests of a Ruby process that one thread reads and two others serve: a runtime probe links them, as this user and so confined"""
    if tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 12):
        return hand_over(linked=True)
    hand_over(linked=False)
    assert "before Linux 6.12 that takes CAP_SYS_ADMIN" in journal(), journal()[-1500:]
    drop_in("AmbientCapabilities=CAP_SYS_ADMIN\nCapabilityBoundingSet=CAP_SYS_ADMIN")
    run("systemctl", "restart", UNIT)
    hand_over(linked=True)
    undo_drop_in()
    run("systemctl", "restart", UNIT)


def hand_over(linked):
    paths = [f"/{KIND}-handed-{next(numbers)}" for _ in range(2)]
    asks = [threading.Thread(target=get, args=(path, PORT + 2)) for path in paths]
    for ask in asks:
        ask.start()
    for ask in asks:
        ask.join()
    for path in paths:
        found = until(lambda: (got := everything(path)) and len(got) == 3 and got)
        entry, call, inner = sorted(found, key=lambda span: span["start"])
        assert (entry["kind"], call["kind"], inner["kind"]) == (2, 3, 2), found
        assert not entry["parent_span_id"] and call["parent_span_id"] == (entry["span_id"] if linked else ""), (found, journal()[-1500:])
        assert inner["parent_span_id"] == call["span_id"], found


def confined():
    """It runs as a user of its own, with five capabilities and a filter of system calls"""
    status = Path(f"/proc/{show('MainPID')}/status").read_text()
    field = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert "0" not in field["Uid"].split() and "0" not in field["Gid"].split(), field["Uid"]
    for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
        assert {bit for bit in range(64) if int(field[name], 16) >> bit & 1} == set(CAPABILITIES), (name, field[name])
    assert (field["NoNewPrivs"], field["Seccomp"]) == ("1", "2")


def logged():
    """The journal has the log, with levels and fields"""
    lines = [json.loads(line) for line in journal("-o", "json").splitlines()]
    own = [line for line in lines if line.get("_SYSTEMD_UNIT") == UNIT and line.get("_TRANSPORT") == "journal"]
    runs = [line for line in own if line["MESSAGE"].startswith("The kernel side runs")]
    assert runs and runs[0]["PRIORITY"] == "6", [line.get("MESSAGE") for line in lines]
    assert [key for key in runs[0] if key.endswith("TIER") and runs[0][key] in ("A", "B", "C", "a", "b", "c")], runs[0]


def reloaded():
    """Reloaded under load: the span of every request arrives, before and behind"""
    paths, stop = [], threading.Event()

    def load():
        while not stop.wait(0.2):
            paths.append(f"/{KIND}-reload-{next(numbers)}")
            get(paths[-1], PORT + 1)

    thread = threading.Thread(target=load)
    thread.start()
    before = show("MainPID")
    for _ in range(3):
        run("systemctl", "reload", UNIT)
        time.sleep(1)
    stop.set()
    thread.join()
    assert show("MainPID") == before and show("ActiveState") == "active"
    assert "reloaded" in journal()
    assert len(paths) > 5
    until(lambda: not [path for path in paths if not spans(path)])


def broken():
    """A broken configuration: the reload fails, and the old selection stays, also after a bare SIGHUP"""
    before = show("MainPID")
    CONFIG.write_text("")
    run("systemctl", "reload", UNIT, fails=True)
    CONFIG.write_text("open_port: none\n")
    run("systemctl", "reload", UNIT, fails=True)
    os.kill(int(before), signal.SIGHUP)
    until(lambda: "open_port" in journal().rpartition("Reload failed")[2])
    assert show("MainPID") == before and show("ActiveState") == "active", run("systemctl", "status", UNIT, fails=None)
    traced()
    CONFIG.write_text(TEXT)
    run("systemctl", "reload", UNIT)
    traced()


def tiers():
    """The environment of the service is read, and each tier runs confined as this"""
    kept, release = ENVIRONMENT.read_text(), tuple(map(int, os.uname().release.split(".")[:2]))
    # Debian's 3 keeps perf_event_open(), which kprobes need, from all without CAP_SYS_ADMIN: docs/INSTALL.md.
    Path("/proc/sys/kernel/perf_event_paranoid").write_text("2")
    found = {one["feature"]: one["verdict"] for one in json.loads(run("spanwire", "check", "--json"))}
    works = [tier for tier in "abc" if found[f"tier {tier}"] == "yes"]
    assert works[:2] == ["a", "b"], found
    print(f"       tiers {', '.join(works)}")
    try:
        for tier in works[1:]:
            ENVIRONMENT.write_text(f"{kept}SPANWIRE_TIER={tier}\n")
            run("systemctl", "restart", UNIT, fails=None)
            print(f"       tier {tier}", flush=True)
            assert show("ActiveState") == "active", journal("-n", "15")
            # tracepoints alone write headers from Linux 6.18 on
            traced(headers=tier != "c" or release >= (6, 18), joined=tier != "c" or release >= (6, 16))
    finally:
        ENVIRONMENT.write_text(kept)
        run("systemctl", "restart", UNIT)


def killed():
    """Killed: it comes back"""
    before = int(show("NRestarts"))
    os.kill(int(show("MainPID")), signal.SIGKILL)
    until(lambda: int(show("NRestarts")) == before + 1 and show("ActiveState") == "active")
    traced()


def watched():
    """The watchdog is fed; whoever hangs is restarted"""
    drop_in("WatchdogSec=10s")
    run("systemctl", "restart", UNIT)
    before, process = show("NRestarts"), show("MainPID")
    time.sleep(25)
    assert (show("NRestarts"), show("MainPID")) == (before, process), journal()
    os.kill(int(process), signal.SIGSTOP)
    until(lambda: show("NRestarts") != before and show("ActiveState") == "active")
    assert "atchdog timeout" in journal()
    undo_drop_in()
    run("systemctl", "restart", UNIT)


def bounded():
    """What it takes stays below what the unit allows"""
    memory, tasks = int(show("MemoryCurrent")), int(show("TasksCurrent"))
    print(f"       memory {memory >> 20} MiB, {tasks} tasks")
    assert memory < int(show("MemoryMax")) / 2 and tasks < int(show("TasksMax")) / 2


def upgraded():
    """Upgraded: the edited configuration stays, the service is restarted if it ran, and only then"""
    before = show("MainPID")
    install(NEWER)
    assert CONFIG.read_text() == TEXT
    until(lambda: show("ActiveState") == "active" and show("MainPID") != before)
    traced()
    run("systemctl", "stop", UNIT)
    run(*{"deb": ("dpkg", "-i"), "rpm": ("rpm", "-U", "--nodeps", "--force")}[KIND], NEWER)
    assert show("ActiveState") == "inactive" and run("systemctl", "is-enabled", UNIT, fails=True) == "disabled"
    run("systemctl", "enable", "--now", UNIT)
    traced()


def left():
    """Paths with our name; the checkout is another file system, and the way to it is not ours."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    found = run("find", "/", "-xdev", "-name", "*spanwire*").splitlines()
    return [one for one in found if not any(mount == one or mount.startswith(f"{one}/") for mount in mounts)]


def removed():
    """Removed: stopped, and no more than the configuration is left; purged: nothing is"""
    run(*{"deb": ("dpkg", "-r"), "rpm": ("rpm", "-e")}[KIND], "spanwire")
    assert run("systemctl", "is-active", UNIT, fails=True) in ("inactive", "unknown")
    assert run("pgrep", "-x", "spanwire", fails=None) == ""
    kept = {"deb": CONFIG, "rpm": Path(f"{CONFIG}.rpmsave")}[KIND]
    assert kept.read_text() == TEXT
    if KIND == "deb":
        run("dpkg", "-P", "spanwire")
        assert left() == [], left()
    else:
        assert sorted(left()) == [str(CONFIG.parent), str(kept)], left()
    run("systemctl", "daemon-reload")
    assert run("systemctl", "list-unit-files", "--no-legend", UNIT, fails=None) == ""
    assert run("getent", "passwd", "spanwire", fails=None) == ""


CASES = (installed, unconfigured, configured, handed, confined, logged, reloaded, broken, tiers, killed, watched, bounded, upgraded, removed)


def prepare():
    run("useradd", "--create-home", "--home-dir", str(HOME), "shop")
    EXECUTABLE.parent.mkdir()
    shutil.copy("/usr/bin/python3", EXECUTABLE)
    shutil.copy("/usr/bin/python3", RUBY)
    run("chown", "-R", "shop:", str(HOME))
    HOME.chmod(0o700)
    for port in (PORT, PORT + 1):
        run("systemd-run", "--quiet", f"--unit=hop-{port}", "--uid=shop", str(EXECUTABLE), str(Path(__file__).with_name("hop.py")), str(port))
        until(lambda: subprocess.run(["curl", "-s", "-o", "/dev/null", f"http://127.0.0.1:{port}/"]).returncode == 0)
    run("systemd-run", "--quiet", "--unit=reactor", "--uid=shop", str(RUBY), str(Path(__file__).with_name("reactor.py")), str(PORT + 2), str(PORT + 1))
    until(lambda: run("ss", "-Hltn", f"sport = :{PORT + 2}"))


def main():
    prepare()
    failed = 0
    cases = [case for case in CASES if not ONLY or case.__name__ in (*ONLY, "installed", "configured")]
    for case in cases:
        begun = time.monotonic()
        try:
            case()
            fault = None
        except Exception as error:  # whatever it is: told, counted, and the rest is tried
            fault = f"\n       {type(error).__name__}: {error}"
            if CONFIG.exists() and case not in (installed, unconfigured):
                CONFIG.write_text(TEXT)
                run("systemctl", "restart", UNIT, fails=None)
        failed += bool(fault)
        print(f"{'FAILED' if fault else 'ok    '} {KIND}: {case.__doc__} ({time.monotonic() - begun:.0f} s){fault or ''}", flush=True)
    print(f"{len(cases)} tests, {failed} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
