"""An API server that is lost, refuses, or has forgotten: spans still come, it is said once, and it is over by itself."""
import contextlib
import signal
import socket
import time

from cluster import Cluster, rotate
from lib.tracer import free_port
from names import ports
from rig import RULES, SLACK, Wire, case, differences, warnings

BOUND, RECOVERY = 2 + SLACK, 45
SOON = {"OTEL_EBPF_KUBE_RECONNECT_INITIAL_INTERVAL": "500ms"}  # twice as long with every try
ALL = [{"exe_path": "*/python3*", "containers_only": True}]


def kube_metrics(tracer):
    return {name: value for name, value in tracer.metrics().items() if "kube" in name and "fail" in name}


def told(tracer, before, since=0):
    """One warning, and a metric that counts; `since`: warnings there were before."""
    lines, after = warnings(tracer)[since:], kube_metrics(tracer)
    grown = [name for name, value in after.items() if value > before.get(name, 0)]
    return (([] if len(lines) == 1 else [f"{len(lines)} warnings: {lines[:3]}"]) + ([] if grown else [f"no metric counts it: {after}"]))


def in_time(world, container, expected=None):
    """A span within the bound, with what is `expected` of it."""
    found, late = world.arrival(container, BOUND + 3)
    if not found:
        return ["no span came"]
    return ([] if late < BOUND else [f"a span after {late:.1f} s"]) + differences(found, expected or {})


def recovers(world, say, container, pod):
    took = world.until_known(container, pod, RECOVERY)
    say(f"back after {took:.1f} s" if took is not None else "not back")
    return [] if took is not None else [f"does not recover in {RECOVERY} s"]


def without_it(world, say, tracer, pod, before, pause=4):
    """While nothing is known: spans come, and go on coming; later it is told once."""
    problems = in_time(world, pod.only, {"k8s.pod.name": None})
    time.sleep(pause)
    problems += in_time(world, pod.only, {"k8s.pod.name": None})
    return problems + told(tracer, before)


def starts(world, *arguments, **settings):
    """It does not wait for the API server: it is ready as soon as one that has nothing to do with it."""
    if not world.usual:
        with world.alone():
            world.spanwire("--port", "1", outside=True)
        world.usual = world.took
    tracer = world.spanwire(*arguments, environment=SOON, **settings)
    return tracer, [] if world.took < 2 * world.usual + 3 else [f"ready after {world.took:.1f} s, usually {world.usual:.1f} s"]


@case
def server_killed_and_back(world, say):
    old, new = world.running("old"), world.running("new")
    tracer = world.spanwire(instrument=ALL)
    problems = [] if world.until_known(old.only, old.pod, 5) is not None else ["not known before"]
    before = kube_metrics(tracer)
    world.plane.kill()
    time.sleep(0.5)
    problems += in_time(world, old.only, {"k8s.pod.name": "old", "k8s.container.name": "app"})
    stranger = world.container("kubepods/besteffort/pod00000000-0000-0000-0000-000000000001/" + "cd" * 32)
    problems += in_time(world, stranger, {"k8s.pod.name": None})
    time.sleep(4)
    problems += in_time(world, old.only, {"k8s.pod.name": "old"}) + told(tracer, before)
    world.plane.start()
    late = world.running("after-the-outage")
    return problems + recovers(world, say, late.only, late.pod) + in_time(world, new.only, {"k8s.pod.name": "new"})


@case
def server_stopped_before_the_start(world, say):
    """It takes connections and says nothing."""
    pod, files = world.running("mute"), world.files()
    world.plane.signal(signal.SIGSTOP)
    tracer, problems = starts(world, *ports(pod), files=files)
    problems += in_time(world, pod.only, {"k8s.pod.name": None})
    time.sleep(2)
    problems += in_time(world, pod.only, {"k8s.pod.name": None})
    world.plane.signal(signal.SIGCONT)
    return problems + recovers(world, say, pod.only, pod.pod) + ([] if len(warnings(tracer)) <= 1 else [f"{len(warnings(tracer))} warnings"])


@case
def server_stopped_while_it_runs(world, say):
    """A watch that says nothing more; the pod that came meanwhile is known afterwards."""
    pod = world.running("known")
    world.spanwire(instrument=ALL, environment=SOON)
    problems = [] if world.until_known(pod.only, pod.pod, 5) is not None else ["not known before"]
    world.plane.signal(signal.SIGSTOP)
    problems += in_time(world, pod.only, {"k8s.pod.name": "known"})
    stranger = world.container("kubepods/besteffort/pod00000000-0000-0000-0000-000000000002/" + "ef" * 32)
    problems += in_time(world, stranger, {"k8s.pod.name": None})
    world.plane.signal(signal.SIGCONT)
    late = world.running("after-the-stop")
    return problems + recovers(world, say, late.only, late.pod)


@case
def server_never_there(world, say):
    pod = world.running("serverless")
    tracer, problems = starts(world, *ports(pod), port=free_port())
    return problems + without_it(world, say, tracer, pod, {})


@case
def server_that_hangs_up(world, say):
    """A load balancer without a server behind it."""
    pod = world.running("hung-up")
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        listener.settimeout(0.05)
        tracer, problems = starts(world, *ports(pod), port=listener.getsockname()[1])
        calls, until = 0, time.monotonic() + 5
        while time.monotonic() < until:
            with contextlib.suppress(TimeoutError):
                listener.accept()[0].close()
                calls += 1
        say(f"{calls} calls in 5 s")
        problems += [] if 0 < calls <= 20 else [f"it called {calls} times in 5 s"]
        return problems + in_time(world, pod.only, {"k8s.pod.name": None}) + told(tracer, {})


@case
def no_right_and_then_granted(world, say):
    """403, until a role is bound."""
    world.cluster.account("spanwire", "late-right", RULES)
    world.cluster.revoke("spanwire", "late-right")
    pod = world.running("forbidden")
    tracer, problems = starts(world, *ports(pod), files=world.files(world.cluster.token_of("spanwire", "late-right")))
    problems += without_it(world, say, tracer, pod, {}, pause=3)
    world.cluster.grant("spanwire", "late-right")
    return problems + recovers(world, say, pod.only, pod.pod)


@case
def token_expired_and_rotated(world, say):
    """401, until the kubelet brings another."""
    expired = world.plane.signed("spanwire", "spanwire", world.account["metadata"]["uid"], 60, begun=-600)
    pod, files = world.running("expired"), world.files(expired)
    tracer, problems = starts(world, *ports(pod), files=files)
    problems += without_it(world, say, tracer, pod, {}, pause=3)
    rotate(files, world.cluster.token_of("spanwire", "spanwire"))
    return problems + recovers(world, say, pod.only, pod.pod)


@case
def history_compacted(world, say):
    """410 Gone: what happened while the server was away is read anew, deletions too."""
    stays, goes = world.running("stays"), world.running("goes")
    tracer = world.spanwire(instrument=ALL, environment=SOON)
    problems = [f"{pod.pod['metadata']['name']} is not known before" for pod in (stays, goes) if world.until_known(pod.only, pod.pod, 5) is None]
    world.plane.kill()
    with world.plane.second() as port:
        meanwhile = Cluster(world.plane, port)
        meanwhile.delete(goes.pod)
        meanwhile.change(stays.pod, labels={"app.kubernetes.io/name": "renamed"})
        goes.only.end()
        again = meanwhile.pod("shop", "goes", "rig-node")
        world.cases.callback(lambda: world.gone(again))
    world.plane.compact()
    world.plane.start()
    late = world.running("after-the-compaction")
    problems += recovers(world, say, late.only, late.pod)
    problems += in_time(world, stays.only, {"k8s.pod.name": "stays", "service.name": "renamed"})
    one = "ab" * 32
    container = world.container(f"kubepods/besteffort/pod{again['metadata']['uid']}/{one}")
    world.cluster.running(again, {"app": one})
    return problems + ([] if world.until_known(container, again, 5) is not None else ["the pod made meanwhile is not known"]) + (
        [] if len(warnings(tracer)) <= 1 else [f"{len(warnings(tracer))} warnings"])


@case
def connection_cut(world, say):
    """The server is there, the connection is not."""
    wire = Wire(world.plane.port)
    world.cases.callback(wire.close)
    first, since = world.running("before-the-cut"), world.plane.audit.stat().st_size
    tracer = world.spanwire(instrument=ALL, port=wire.port, environment=SOON)
    problems = [] if world.until_known(first.only, first.pod, 5) is not None else ["not known before"]
    problems += [] if wire.cut() else ["there was no connection"]
    second = world.running("after-the-cut")
    problems += recovers(world, say, second.only, second.pod)
    asked = [entry["verb"] for entry in world.asked(since) if entry["objectRef"]["resource"] == "pods" and entry["verb"] in ("list", "watch")]
    say(f"{asked.count('list')} lists, {asked.count('watch')} watches")
    problems += [] if "watch" in asked else [f"asked {asked}"]
    return problems + ([] if len(warnings(tracer)) <= 1 else [f"{len(warnings(tracer))} warnings"])
