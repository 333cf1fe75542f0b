#!/usr/bin/env python3
"""Two hosts with address translation between them, one spanwire each: one trace for each request.

    tests/propagation/hosts.py [--requests N]

Network namespaces `a` and `b` see each other through a third one that changes addresses and ports of both ends.
front (a) calls middle (b), which calls back (a). Each spanwire looks at the processes of its own namespace.
"""
import argparse
import collections
import http.client
import os
import shutil
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from lib.tracer import BINARY, Tracer, need_root  # noqa: E402

A, ROUTER, B = (f"spanwire-{name}-{os.getpid()}" for name in ("a", "router", "b"))


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def inside(namespace, *command):
    # not `ip netns exec`, which hides the mount of the cgroups
    return ["nsenter", f"--net=/run/netns/{namespace}", *command]


def serve(port, following):
    """One thread for each connection; calls what follows, with the same path."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            status = 200
            if following:
                connection = http.client.HTTPConnection(following, timeout=10)
                connection.request("GET", self.path)
                answer = connection.getresponse()
                answer.read()
                connection.close()
                status = answer.status
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    ThreadingHTTPServer.request_queue_size = 128
    ThreadingHTTPServer(("", port), Handler).serve_forever()


def build():
    for name in (A, ROUTER, B):
        run("ip", "netns", "add", name)
        run(*inside(name, "ip", "link", "set", "lo", "up"))
    for namespace, link, net in ((A, "to-a", "10.77.1"), (B, "to-b", "10.77.2")):
        run(*inside(ROUTER, "ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", namespace))
        run(*inside(ROUTER, "ip", "address", "add", f"{net}.1/24", "dev", link))
        run(*inside(ROUTER, "ip", "link", "set", link, "up"))
        run(*inside(namespace, "ip", "address", "add", f"{net}.2/24", "dev", "eth0"))
        run(*inside(namespace, "ip", "link", "set", "eth0", "up"))
    # Neither host knows a route to the other: each sees the router alone.
    run(*inside(ROUTER, "sysctl", "-q", "net.ipv4.ip_forward=1"))
    for rule in ("add table ip nat", "add chain ip nat pre { type nat hook prerouting priority -100; }",
                 "add chain ip nat post { type nat hook postrouting priority 100; }",
                 "add rule ip nat pre iif to-a tcp dport 80 dnat to 10.77.2.2:8080",
                 "add rule ip nat pre iif to-b tcp dport 80 dnat to 10.77.1.2:8090",
                 "add rule ip nat post masquerade random"):
        run(*inside(ROUTER, "nft", rule))


def destroy():
    for name in (A, ROUTER, B):
        subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)


def ask(requests, level):
    """Runs in namespace a. Prints how many failed."""
    faults = []

    def one(worker):
        for number in range(worker, requests, level):
            try:
                connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=10)
                connection.request("GET", f"/{level}-{number}")
                if connection.getresponse().status != 200:
                    faults.append(number)
                connection.close()
            except (OSError, http.client.HTTPException) as error:
                faults.append(repr(error))

    workers = [threading.Thread(target=one, args=(worker,)) for worker in range(level)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(faults)
    return bool(faults)


def judge(spans, requests, levels):
    """(complete, wrong) over all requests: wrong is a parent that is a span of another request."""
    def request(span):
        attributes = span["attributes"]
        return "/" + attributes.get("url.path", attributes.get("url.full", "")).rsplit("/", 1)[-1]

    of = collections.defaultdict(dict)
    known = {(span["trace_id"], span["span_id"]): request(span) for span in spans}
    wrong = 0
    for span in spans:
        parent = span["parent_span_id"]
        wrong += parent is not None and known.get((span["trace_id"], parent), request(span)) != request(span)
        key, mine = (span["service"], span["kind"]), of[request(span)]
        mine[key] = span if key not in mine else None
    complete = 0
    order = [("front", "server"), ("front", "client"), ("middle", "server"), ("middle", "client"), ("back", "server")]
    for level in levels:
        for number in range(requests):
            mine = of.get(f"/{level}-{number}", {})
            chain = [mine.get(key) for key in order]
            if None in chain:
                print(f"/{level}-{number}: has {sorted(' '.join(key) for key, span in mine.items() if span)}")
                continue
            links = [child["parent_span_id"] == parent["span_id"] and child["trace_id"] == parent["trace_id"]
                     for parent, child in zip(chain, chain[1:])]
            complete += all(links) and chain[0]["parent_span_id"] is None
            if not all(links) or chain[0]["parent_span_id"] is not None:
                print(f"/{level}-{number}: links {links}, of the root {chain[0]['parent_span_id']}")
    return complete, wrong


def in_namespace(where, tracer):
    out = subprocess.run(inside(where, "curl", "-s", f"http://127.0.0.1:{tracer.port}/internal/metrics"), capture_output=True, text=True).stdout
    rows = (line.rsplit(" ", 1) for line in out.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=300)
    requests = parser.parse_args().requests
    levels = (1, 8, 64)
    need_root(1)
    for tool in ("ip", "nft", "nsenter"):
        if not shutil.which(tool):
            print(f"skipped 1 test: {tool} is not there")
            return 3
    processes, tracers = [], []
    try:
        build()
        for namespace, name, port, following in ((A, "back", 8090, ""), (B, "middle", 8080, "10.77.2.1:80"), (A, "front", 8000, "10.77.1.1:80")):
            command = inside(namespace, sys.executable, __file__, "--serve", str(port), following)
            processes.append((namespace, subprocess.Popen(command, env={**os.environ, "OTEL_SERVICE_NAME": name})))
        time.sleep(1)
        for namespace in (A, B):
            pids = ",".join(str(process.pid) for where, process in processes if where == namespace)
            tracers.append(Tracer("--pid", pids, settings={"ebpf.context_propagation": "headers"}, binary=BINARY, prefix=inside(namespace)))
        failed = False
        for level in levels:
            failed |= bool(subprocess.run(inside(A, sys.executable, __file__, "--ask", str(requests), str(level))).returncode)
        time.sleep(1)
        events = [{name: count for name, count in in_namespace(where, tracer).items() if count and "kernel_events" in name} for where, tracer in zip((A, B), tracers)]
        spans = [span for tracer in tracers for span in tracer.finish(1)]
        complete, wrong = judge(spans, requests, levels)
        total = requests * len(levels)
        for tracer in tracers:
            lost = [line for line in tracer.log.read_text().splitlines() if "WARN" in line or "ERROR" in line]
            print(*lost, sep="\n", end="\n" if lost else "")
        if complete != total:
            print(*events, sep="\n")
        print(f"{total} requests over two hosts at {levels}: {complete} complete, {wrong} wrong links, application errors: {failed}")
        return int(complete != total or wrong or failed)
    finally:
        for _, process in processes:
            process.kill()
        destroy()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(int(sys.argv[2]), sys.argv[3])
    elif sys.argv[1:2] == ["--ask"]:
        sys.exit(ask(int(sys.argv[2]), int(sys.argv[3])))
    else:
        sys.exit(main())
