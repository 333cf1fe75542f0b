"""A service: answers with the traceparent that it was sent; /hop/... asks the service on the next port first, and passes its answer on.

usage: hop.py PORT
"""
import http.client
import http.server
import sys

PORT = int(sys.argv[1])


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        answer = self.headers["traceparent"] or "none"
        if self.path.startswith("/hop/"):
            call = http.client.HTTPConnection("127.0.0.1", PORT + 1)
            call.request("GET", self.path.removeprefix("/hop"))
            answer = call.getresponse().read().decode()
            call.close()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
