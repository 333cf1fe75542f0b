"""One hop: a thread for each connection. PORT, NEXT (empty for the last hop), BG_HZ."""
import http.client
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

NEXT = os.environ.get("NEXT", "")
LOCAL = threading.local()


def call(path):
    """Calls the next hop on this thread's own connection."""
    connection = getattr(LOCAL, "connection", None)
    if connection is None:
        connection = LOCAL.connection = http.client.HTTPConnection(urlsplit(NEXT).netloc, timeout=20)
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        status, body = call(self.path) if NEXT else (200, b"end")
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def background(hertz):
    count = 0
    while True:
        time.sleep(1 / hertz)
        count += 1
        try:
            call(f"/bg/{os.getpid()}-{count}")
        except OSError:
            LOCAL.connection = None


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


if __name__ == "__main__":
    if NEXT and float(os.environ.get("BG_HZ", "0")):
        threading.Thread(target=background, args=(float(os.environ["BG_HZ"]),), daemon=True).start()
    Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
