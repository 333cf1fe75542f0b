#!/usr/bin/env python3
"""Both ends on one host: what the kernel has seen wins over the header, which says the same.

    tests/propagation/joined.py
"""
import http.client
import http.server
import os
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from lib.tracer import Tracer, need_root  # noqa: E402

COUNT = 50
seen = {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        seen[self.path] = self.headers.get_all("traceparent")
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def main():
    need_root(1)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    tracer = Tracer("--pid", str(os.getpid()), settings={"ebpf.context_propagation": "headers"})
    for number in range(COUNT):
        client = http.client.HTTPConnection("127.0.0.1", server.server_port)
        client.request("GET", f"/{number}")
        client.getresponse().read()
        client.close()
    spans = {(span["kind"], span["attributes"].get("url.path", span["attributes"].get("url.full", "")).rsplit("/", 1)[-1]): span
             for span in tracer.finish()}
    faults = []
    for number in range(COUNT):
        call, served = spans.get(("client", str(number))), spans.get(("server", str(number)))
        header = f"00-{call['trace_id']}-{call['span_id']}-{call['trace_flags']:02x}" if call else None
        if not call or not served or seen[f"/{number}"] != [header]:
            faults.append(f"/{number}: header {seen[f'/{number}']}, not {header}")
        elif served["parent_span_id"] != call["span_id"] or served["attributes"]["spanwire.link"] != "joined":
            faults.append(f"/{number}: {served['attributes']['spanwire.link']}, parent {served['parent_span_id']}")
    print(f"{COUNT} requests to the same host, {COUNT - len(faults)} joined and with their header", *faults[:3])
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
