"""Takes OTLP over HTTP, for the Python rigs: the resources of what comes."""
import http.server
import threading


class Collector(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        for resource_spans in fields(body, 1):
            for resource in fields(resource_spans, 1):
                pairs = {one(pair, 1).decode(): one(pair, 2) for pair in fields(resource, 1)}
                self.server.resources.append({key: plain(value) for key, value in pairs.items()})
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def fields(message, wanted):
    """All values of a field of a protobuf message."""
    def number(at):
        value = shift = 0
        while True:
            byte = message[at]
            value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
            if byte < 128:
                return value, at

    at, out = 0, []
    while at < len(message):
        key, at = number(at)
        if key & 7 == 0:
            value, at = number(at)
        else:
            size, at = number(at) if key & 7 == 2 else ({1: 8, 5: 4}[key & 7], at)
            value, at = message[at:at + size], at + size
        if key >> 3 == wanted:
            out.append(value)
    return out


def one(message, wanted):
    return fields(message, wanted)[-1]


def plain(value):
    """An AnyValue: text, a list of them, or a number."""
    if fields(value, 1):
        return one(value, 1).decode()
    if fields(value, 5):
        return [plain(each) for each in fields(one(value, 5), 1)]
    return one(value, 3)


def collector(stack):
    """(attributes of the resources that came, settings with which spanwire exports here), until `stack` is closed."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    server.resources = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    settings = {"otel_traces_export.endpoint": f"http://127.0.0.1:{server.server_port}/v1/traces", "otel_traces_export.protocol": "http/protobuf"}
    return server.resources, settings
