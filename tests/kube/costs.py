"""What it asks of the API server and of the network, and what it keeps in memory."""
import re
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from names import ports
from rig import NODE, OTHER_NODES, case, differences

PODS, LOCAL = 10_000, 250


@case
def nothing_but_server_and_collector(world, say):
    """Every address that it connects or sends to, by strace."""
    pod, trace = world.running("traced-calls"), world.directory / "strace"
    strace = ["strace", "-D", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-e", "signal=none", "-o", str(trace)]
    world.spanwire(*ports(pod), before=strace)
    found = world.resource(pod.only, 6)
    time.sleep(1)
    text = trace.read_text()
    addresses = set(re.findall(r"sin6?_port=htons\((\d+)\)[^}]*?(?:inet_addr\(\"|inet_pton\(AF_INET6, \")([^\"]+)", text))
    allowed = {(str(world.plane.port), "127.0.0.1"), (str(world.collector.port), "127.0.0.1")}
    say(f"{len(addresses)} addresses")
    return (differences(found, {"k8s.pod.name": "traced-calls"}) + [f"calls {address}:{port}" for port, address in addresses - allowed] +
            ([] if addresses >= allowed else [f"strace does not see all of {allowed}"]))


def settled(tracer):
    """Resident KiB, as the middle of a second."""
    time.sleep(1)
    samples = []
    for _ in range(10):
        samples.append(tracer.resident_kib())
        time.sleep(0.1)
    return statistics.median(samples)


def fresh(world):
    """KiB of a spanwire that starts now."""
    with world.alone():
        return settled(world.spanwire("--port", "1"))


@case
def memory(world, say):
    """10,000 pods elsewhere, their 20,000 events; 250 pods here, and others in their place."""
    world.cluster.namespace("big")
    known = world.running("known-throughout")
    elsewhere = lambda number: OTHER_NODES[number % len(OTHER_NODES)]  # noqa: E731
    world.cluster.many("big", "web", elsewhere, 100)
    with_100 = fresh(world)
    tracer = world.spanwire(*ports(known))
    problems = differences(world.resource(known.only), {"k8s.pod.name": "known-throughout"})
    throughout = settled(tracer)
    begun = time.monotonic()
    world.cluster.many("big", "web", elsewhere, PODS - 100, first=100)
    say(f"{(PODS - 100) / (time.monotonic() - begun):.0f} pods a second")
    after_events = settled(tracer)
    with_all = fresh(world)
    pods = world.cluster.many("big", "here", lambda _: NODE, LOCAL)
    with_local = settled(tracer)
    for name in ("again", "once-more"):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(world.cluster.delete, pods))
        pods = world.cluster.many("big", name, lambda _: NODE, LOCAL)
    with_others = settled(tracer)
    here = len(world.cluster.call("GET", f"/api/v1/pods?fieldSelector=spec.nodeName%3D{NODE}")["items"])
    counted = {name: value for name, value in tracer.metrics().items() if "kubernetes_pods" in name}
    problems += [] if list(counted.values()) == [here] else [f"{counted} of {here} pods are known"]
    fresh_local = fresh(world)
    problems += differences(world.resource(known.only), {"k8s.pod.name": "known-throughout"})
    rows = {f"{PODS} pods of other nodes at the start": (with_all - with_100, 1024),
            f"{2 * PODS} events of other nodes": (after_events - throughout, 1024),
            f"{LOCAL} pods here at the start": (fresh_local - with_all, 5120), f"{LOCAL} pods that come here": (with_local - after_events, 5120),
            f"{2 * LOCAL} that take their place": (with_others - with_local, 1024)}
    say(f"{with_100:.0f} KiB with 100 pods; " + ", ".join(f"{name} {grown:+.0f} KiB" for name, (grown, _) in rows.items()))
    return problems + [f"{name}: {grown:+.0f} KiB, not less than {limit}" for name, (grown, limit) in rows.items() if grown >= limit]


@case
def asked_of_the_server(world, say):
    """By all cases before: of pods only those of one node, as a whole or one by name; of nodes only; and no change of anything."""
    problems, lists, watches = set(), 0, 0
    for entry in world.asked():
        what, verb, uri = entry["objectRef"]["resource"], entry["verb"], entry["requestURI"]
        if what not in ("pods", "nodes") or verb not in ("get", "list", "watch") or entry["objectRef"].get("subresource"):
            problems.add(f"{verb} {uri}")
        elif what == "pods" and verb in ("list", "watch"):
            lists, watches = lists + (verb == "list"), watches + (verb == "watch")
            if not re.search(r"[?&]fieldSelector=spec\.nodeName(%3D|=)[a-z0-9.-]+(&|$)", uri):
                problems.add(f"{verb} {uri}")
    say(f"{lists} lists and {watches} watches of pods")
    return sorted(problems) + ([] if lists and watches else ["no pods were listed and watched"])
