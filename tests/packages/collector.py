"""A collector on this machine's loopback, which a guest has at 10.0.2.2: what arrives can be read again, one line of JSON per span."""
import functools
import http.server
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from lib.tracer import free_port  # noqa: E402

RECEIVER = Path(__file__).resolve().parents[1] / "e2e/receivers/otlp_receiver.py"
VENV = Path(os.environ.get("SPANWIRE_VENV", Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "spanwire/venv")))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Collector:
    def __init__(self):
        self.directory = tempfile.TemporaryDirectory()
        Path(self.directory.name, "spans").touch()
        self.grpc, self.http = free_port(), free_port()
        self.process = subprocess.Popen([VENV / "bin/python", RECEIVER, str(self.grpc), str(self.http), f"{self.directory.name}/spans"])
        handler = functools.partial(Quiet, directory=self.directory.name)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.spans = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.http)).close()
                return self
            except ConnectionRefusedError:
                time.sleep(0.1)
        sys.exit("the collector does not start")

    def __exit__(self, *_):
        self.server.shutdown()
        self.process.terminate()
        self.process.wait()
        self.directory.cleanup()
