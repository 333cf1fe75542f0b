"""A service of the node: answers with the traceparent it received, and with the answer of NEXT if that is set. PORT, NEXT"""
import http.client
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        below = None
        if to := os.environ.get("NEXT"):
            call = http.client.HTTPConnection(to, timeout=10)
            call.request("GET", self.path)
            below = json.load(call.getresponse())
            call.close()
        body = json.dumps({"traceparent": self.headers["traceparent"], "below": below}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
