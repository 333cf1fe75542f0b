"""What is on the node besides spanwire: two services, one of which calls the other, and a collector."""
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
RECEIVER = HERE.parent / "e2e/receivers/otlp_receiver.py"
FRONT, BACK, GRPC, HTTP = 8090, 8091, 4317, 4318
SERVER, CLIENT = 2, 3
PYTHON = os.environ.get("SPANWIRE_PYTHON", "/usr/bin/python3")


class Node:
    def __init__(self, directory):
        self.received = Path(directory, "received")
        self.received.touch()
        self.running = [subprocess.Popen([sys.executable, RECEIVER, str(GRPC), str(HTTP), self.received])]
        for port, following in ((BACK, ""), (FRONT, f"127.0.0.1:{BACK}")):
            environment = {**os.environ, "PORT": str(port), "NEXT": following, "OTEL_SERVICE_NAME": "front" if following else "back"}
            self.running.append(subprocess.Popen([PYTHON, HERE / "service.py"], env=environment))
        for port in (GRPC, HTTP, FRONT, BACK):
            answers(port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.running:
            process.kill()
            process.wait()

    def ask(self, path):
        """The traceparent that the second service received."""
        call = http.client.HTTPConnection("127.0.0.1", FRONT, timeout=10)
        call.request("GET", path)
        below = json.load(call.getresponse())["below"]
        call.close()
        return below["traceparent"]

    def spans(self, path):
        rows = map(json.loads, self.received.read_text().splitlines())
        return [row for row in rows if path in (row["attributes"].get("url.path") or row["attributes"].get("url.full"))[1]]


def answers(port):
    deadline = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def chain(spans, header):
    """What is wrong with the spans of one request: front, its call, back, each the parent of the next. `header`: what back received."""
    order = [("front", SERVER), ("front", CLIENT), ("back", SERVER)]
    found = {(span["resource"]["service.name"][1], span["kind"]): span for span in spans}
    if sorted(found) != sorted(order) or len(spans) != len(order):
        return [f"spans: {[(span['resource']['service.name'][1], span['kind']) for span in spans]}"]
    front, call, back = (found[one] for one in order)
    problems = [f"{child['name']}: its parent is {child['parent_span_id']}, not {parent['span_id']}"
                for parent, child in ((front, call), (call, back)) if child["parent_span_id"] != parent["span_id"]]
    wanted = f"00-{call['trace_id']}-{call['span_id']}-"
    if header is not None and not header.startswith(wanted):
        problems.append(f"header {header}, not {wanted}…")
    return problems
