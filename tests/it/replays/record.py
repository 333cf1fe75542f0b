#!/usr/bin/env python3
"""Makes chain.rec anew, after a change of the records' layout; needs root.

    tests/it/replays/record.py

A client that is not traced asks a server, which asks another. Each path says what has to come of it
(tests/it/replay.rs): /r/ID/STATUS/SIZE goes all the way, /refuse/ID meets a closed port, /cut/ID is left in the
middle of its answer.
"""
import http.client
import http.server
import os
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from lib.tracer import Tracer, free_port, need_root  # noqa: E402

OUT = Path(__file__).with_name("chain.rec")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    next_port = 0

    def do_GET(self):
        _, what, number, *rest = self.path.split("/")
        status, size = (int(rest[0]), int(rest[1])) if what == "r" else (502, 0)
        headers = {"Cookie": "c" * 2000} if int(number) % 5 == 0 else {}
        if what == "cut":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nten bytes.")
            self.close_connection = True
            return
        if self.next_port:
            try:
                call = http.client.HTTPConnection("127.0.0.1", self.next_port if what == "r" else self.server.closed)
                call.request("GET", self.path, headers=headers)
                call.getresponse().read()
                call.close()
            except ConnectionRefusedError:
                pass
        self.send_response(status)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(b"x" * size)

    def log_message(self, *_):
        pass


def serve(port, next_port, closed):
    pid = os.fork()
    if pid:
        return pid
    Handler.next_port = next_port
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.closed = closed
    server.serve_forever()


def main():
    need_root(1)
    first, second, closed = free_port(), free_port(), free_port()
    servers = [serve(second, 0, 0), serve(first, second, closed)]
    raw = Path(tempfile.mkdtemp(), "raw")
    try:
        time.sleep(0.5)
        tracer = Tracer("--pid", ",".join(map(str, servers)), "--record", str(raw), printer="counter")
        time.sleep(0.5)
        kept = http.client.HTTPConnection("127.0.0.1", first)
        for number in range(60):
            kept.request("GET", f"/r/{number}/{(200, 204, 404, 503)[number % 4]}/{0 if number % 4 == 1 else number * 7}")
            kept.getresponse().read()
        for number in range(60, 64):
            kept.request("GET", f"/refuse/{number}")
            kept.getresponse().read()
        for number in range(64, 66):
            with socket.create_connection(("127.0.0.1", first)) as cut:
                cut.sendall(f"GET /cut/{number} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                while cut.recv(4096):
                    pass
        tracer.finish(0.5)
        OUT.write_bytes(raw.read_bytes())
        print(f"{OUT}: {OUT.stat().st_size} bytes")
    finally:
        for pid in servers:
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
