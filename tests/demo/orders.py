"""Second service of the demo: answers /orders/<n> with what the stock service says. usage: orders.py PORT NEXT"""

import http.client
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

port, stock = int(sys.argv[1]), int(sys.argv[2])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body leave in two writes

    def do_GET(self):
        number = self.path.rsplit("/", 1)[-1]
        connection = http.client.HTTPConnection("127.0.0.1", stock, timeout=5)
        try:
            connection.request("GET", f"/stock/{number}")
            answer = connection.getresponse()
            left, status = json.loads(answer.read()), answer.status
        except (OSError, ValueError) as error:
            left, status = str(error), 502
        finally:
            connection.close()
        body = json.dumps({"order": number, "stock": left}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
