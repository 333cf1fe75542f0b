"""
ThreadingHTTPServer: a thread per connection. CLIENT=requests (a session per thread), http.client (a connection per call) or
asyncio (a loop of its own per call, as a coroutine in a synchronous framework has).
"""

import asyncio
import http.client
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import background
from background import NEXT, SERVICE

CLIENT = os.environ.get("CLIENT", "http.client")
local = threading.local()


async def call_on_loop(path):
    import httpx

    async with httpx.AsyncClient(timeout=20, trust_env=False, verify=False) as client:
        answer = await client.get(NEXT + path)
        answer.raise_for_status()
        return answer.content


def call(path):
    if CLIENT == "asyncio":
        return asyncio.run(call_on_loop(path))
    if CLIENT == "http.client":
        connection = http.client.HTTPConnection(urlsplit(NEXT).netloc, timeout=20)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise OSError(f"status {answer.status}")
            return body
        finally:
            connection.close()
    import requests

    if not hasattr(local, "session"):
        local.session = requests.Session()
        local.session.trust_env = False
    answer = local.session.get(NEXT + path, timeout=20)
    answer.raise_for_status()
    return answer.content


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body leave in two writes; without this the second waits 40 ms for a delayed acknowledgement.
    disable_nagle_algorithm = True

    def do_GET(self):
        forward = NEXT and not self.path.startswith("/bg/")
        try:
            body = SERVICE.encode() + b" " + (call(self.path) if forward else self.path.encode())
            self.send_response(200)
        except Exception as error:
            body = str(error).encode()
            self.send_response(502)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


background.start(call)
Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
