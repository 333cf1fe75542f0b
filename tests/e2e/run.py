#!/usr/bin/env python3
"""Three hops of real services, requests with an id in their path, and exact counts.

For each scenario and each number of requests at a time: how many traces are complete, how many
links are wrong, how many spans there are twice, how many answers were errors.

    tests/e2e/run.py [--list] [--binary PATH] [--requests N] [--levels 1,8,64] [SCENARIO ...]

Exit status: 0 all as it should be, 1 not, 3 nothing could be run.
"""
import argparse
import collections
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from services import SCENARIOS, Missing, Services, free_ports

ROOT = Path(__file__).resolve().parent.parent.parent


def load(port, level, ids):
    """Sends a GET for each id, `level` at a time. Returns the errors."""
    errors = []
    work = collections.deque(ids)

    def client():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while True:
            try:
                path = work.popleft()
            except IndexError:
                return connection.close()
            try:
                connection.request("GET", path)
                response = connection.getresponse()
                body = response.read()
                if response.status != 200 or body != b"end":
                    errors.append(f"{path}: {response.status} {body[:60]!r}")
            except (OSError, http.client.HTTPException) as error:
                errors.append(f"{path}: {error!r}")
                connection.close()

    clients = [threading.Thread(target=client) for _ in range(level)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    return errors


def path_of(span):
    attributes = span["attributes"]
    return attributes.get("url.path") or urlsplit(attributes.get("url.full", "")).path


def evaluate(spans, ports, ids):
    """Exact counts, by the id in the path."""
    by_id = {span["span_id"]: span for span in spans}
    duplicates = len(spans) - len(by_id)
    wrong = []
    for span in spans:
        parent = by_id.get(span["parent_span_id"])
        if parent is not None and path_of(parent) != path_of(span):
            wrong.append((path_of(parent), path_of(span)))
        elif parent is not None and parent["trace_id"] != span["trace_id"]:
            wrong.append((parent["trace_id"], span["trace_id"]))
    grouped = collections.defaultdict(list)
    for span in spans:
        grouped[path_of(span)].append(span)
    complete, found = 0, 0
    for path in ids:
        mine = grouped.get(path, [])
        places = {(span["kind"], span["attributes"].get("server.port")): span for span in mine}
        order = [("server", ports[0])]
        for port in ports[1:]:
            order += [("client", port), ("server", port)]
        found += sum(place in places for place in order)
        chain = [places.get(place) for place in order]
        if len(mine) != len(order) or None in chain:
            continue
        linked = all(child["parent_span_id"] == parent["span_id"] and child["trace_id"] == parent["trace_id"]
                     for parent, child in zip(chain, chain[1:]))
        complete += linked and chain[0]["parent_span_id"] is None
    expected = len(ids) * (2 * len(ports) - 1)
    return {"complete": complete, "wrong": wrong, "duplicates": duplicates, "found": found, "expected": expected}


def scenario(name, arguments):
    """Runs one scenario at all levels. Yields (level, result, errors)."""
    start, _ = SCENARIOS[name]
    ports = free_ports(3)
    services = Services()
    tracer = None
    output = services.scratch / "spans.json"
    try:
        for at in (2, 1, 0):
            start(services, ports[at], ports[at + 1] if at < 2 else None, arguments.background)
        with open(output, "wb") as out, open(services.scratch / "spanwire.log", "wb") as log:
            tracer = subprocess.Popen(
                [arguments.binary, "run", "--port", ",".join(map(str, ports)), "--print", "json"],
                stdout=out, stderr=log, start_new_session=True)
        for _ in range(200):
            if b"Ready" in (services.scratch / "spanwire.log").read_bytes() or tracer.poll() is not None:
                break
            time.sleep(0.05)
        if tracer.poll() is not None:
            raise RuntimeError((services.scratch / "spanwire.log").read_text()[-2000:])
        time.sleep(1)
        batches = []
        for level in arguments.levels:
            ids = [f"/r/{level}-{number}" for number in range(arguments.requests * (1 if level == 1 else 2))]
            batches.append((level, ids, load(ports[0], level, ids)))
            time.sleep(0.3)
        time.sleep(0.7)
        tracer.send_signal(signal.SIGTERM)
        tracer.wait(20)
        spans = [json.loads(line) for line in output.read_text().splitlines()]
        if arguments.keep:
            Path(arguments.keep).write_text(output.read_text())
        notes = [line for line in (services.scratch / "spanwire.log").read_text().splitlines() if "lost" in line]
        whole = evaluate(spans, ports, [])
        for level, ids, errors in batches:
            wanted = set(ids)
            result = evaluate([span for span in spans if path_of(span) in wanted], ports, ids)
            result["wrong"] = whole["wrong"]
            result["duplicates"] = whole["duplicates"]
            result["notes"] = notes
            yield level, result, errors
    finally:
        if tracer and tracer.poll() is None:
            os.killpg(tracer.pid, signal.SIGKILL)
            tracer.wait()
        services.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--binary", default=str(ROOT / "target/release/spanwire"))
    parser.add_argument("--requests", type=int, default=150)
    parser.add_argument("--levels", type=lambda text: [int(part) for part in text.split(",")], default=[1, 8, 64])
    parser.add_argument("--background", type=float, default=50)
    parser.add_argument("--keep", help="write the last scenario's spans here")
    arguments = parser.parse_args()
    if arguments.list:
        return print("\n".join(SCENARIOS))
    failures, skipped, ran = [], [], 0
    print(f"{'scenario':<18}{'at a time':>10}{'complete':>14}{'wrong':>7}{'twice':>7}{'errors':>8}{'spans':>9}", flush=True)
    for name in arguments.scenarios or SCENARIOS:
        exact = SCENARIOS[name][1]
        try:
            for level, result, errors in scenario(name, arguments):
                ran += 1
                ids = result["expected"] // 5
                share = result["found"] / result["expected"]
                print(f"{name:<18}{level:>10}{result['complete']:>8}/{ids:<5}{len(result['wrong']):>7}"
                      f"{result['duplicates']:>7}{len(errors):>8}{share:>9.1%}", flush=True)
                problems = [f"wrong link {pair}" for pair in result["wrong"][:3]] + errors[:3] + result["notes"][:1]
                if result["wrong"] or errors or result["duplicates"] or share < 0.99:
                    failures.append((name, level, problems))
                elif exact and result["complete"] != ids:
                    failures.append((name, level, problems or ["incomplete"]))
        except Missing as reason:
            skipped.append((name, reason))
        except RuntimeError as reason:
            failures.append((name, "-", [str(reason)]))
    for name, reason in skipped:
        print(f"skipped {name}: {reason}")
    for name, level, problems in failures:
        print(f"FAILED {name} at {level}: {problems}")
    print(f"{ran} runs, {len(failures)} failed, {len(skipped)} scenarios skipped")
    return 1 if failures else 0 if ran else 3


if __name__ == "__main__":
    sys.exit(main())
