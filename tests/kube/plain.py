"""The rig itself: what its API server does is what the other cases build on."""
import threading
import time

from cluster import ApiError, Cluster, plural
from rig import NODE, RULES, case, wait_for


def status_of(cluster, method, path):
    try:
        cluster.call(method, path)
    except ApiError as error:
        return error.status
    return 200


@case
def rig_server_starts_in_time(world, say):
    return [] if world.started_in < 15 else [f"ready after {world.started_in:.1f} s"]


@case
def rig_rights_and_tokens(world, say):
    pods, uid = "/api/v1/pods?limit=1", world.cluster.account("spanwire", "probe", RULES)["metadata"]["uid"]
    mine = world.cluster.token_of("spanwire", "probe")
    world.cluster.account("spanwire", "nobody")
    signed = {begun: world.plane.signed("spanwire", "probe", uid, 60, begun) for begun in (0, -600)}
    expected = {"TokenRequest": (mine, "GET", pods, 200), "signed": (signed[0], "GET", pods, 200), "expired": (signed[-600], "GET", pods, 401),
                "none": ("", "GET", pods, 401), "another account": (world.cluster.token_of("spanwire", "nobody"), "GET", pods, 403),
                "a right it lacks": (mine, "GET", "/api/v1/secrets", 403), "writing": (mine, "DELETE", f"/api/v1/nodes/{NODE}", 403)}
    got = {name: status_of(Cluster(world.plane, token=token or "-"), method, path) for name, (token, method, path, _) in expected.items()}
    return [f"{name}: {got[name]}, not {wanted}" for name, (*_, wanted) in expected.items() if got[name] != wanted]


@case
def rig_watch_sees_one_node(world, say):
    version = world.cluster.call("GET", "/api/v1/pods?limit=1")["metadata"]["resourceVersion"]
    query = f"/api/v1/pods?watch=1&resourceVersion={version}&timeoutSeconds=2&fieldSelector=spec.nodeName%3D{NODE}"
    seen = []
    names = ((kind, found["metadata"]["name"]) for kind, found in world.cluster.watch(query))
    reader = threading.Thread(target=seen.extend, args=(names,), daemon=True)
    reader.start()
    world.pod("watched-elsewhere", node="other-node")
    pod = world.pod("watched")
    world.cluster.running(pod, {"app": "0" * 64})
    world.cluster.delete(pod)
    reader.join(10)
    kinds = [kind for kind, name in seen if name == "watched"]
    return [] if len(kinds) == len(seen) and kinds[:2] == ["ADDED", "MODIFIED"] and kinds[-1] == "DELETED" else [f"saw {seen}"]


@case
def rig_many_pods_a_second(world, say):
    begun = time.monotonic()
    world.cluster.many("other", "few", lambda number: f"rig-{number % 7}", 200)
    rate = 200 / (time.monotonic() - begun)
    found = world.cluster.call("GET", plural("v1", "other", "pods") + "?fieldSelector=spec.nodeName%3Drig-3&limit=500")["items"]
    say(f"{rate:.0f} pods a second")
    return [] if len(found) == 29 else [f"{len(found)} pods of node rig-3, not 29"]


def gone(world, version, port=None):
    """Whether a watch from `version` on is answered with 410, as a status or as an event."""
    query = f"/api/v1/pods?watch=1&resourceVersion={version}&timeoutSeconds=1&fieldSelector=spec.nodeName%3D{NODE}"
    try:
        return any(kind == "ERROR" and found.get("code") == 410 for kind, found in Cluster(world.plane, port).watch(query))
    except ApiError as error:
        return error.status == 410


@case
def rig_forgets_after_a_compaction(world, say):
    version = world.cluster.call("GET", "/api/v1/pods?limit=1")["metadata"]["resourceVersion"]
    problems = ["410 before the compaction"] if gone(world, version) else []
    pod = world.pod("compacted")
    world.plane.kill()
    with world.plane.second() as port:
        Cluster(world.plane, port).change(pod, labels={"changed": "yes"})
    world.plane.compact()
    world.plane.start()
    return problems + ([] if wait_for(lambda: gone(world, version), 5, 0.2) else ["no 410 after it"])
