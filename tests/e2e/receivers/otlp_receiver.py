"""OTLP receiver of the official protobuf definitions: gRPC by grpcio, HTTP by the standard library.

usage: otlp_receiver.py GRPC_PORT HTTP_PORT OUT    appends one JSON line per span to OUT, with the type of each attribute.
"""

import gzip
import json
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as rpc

grpc_port, http_port, out = int(sys.argv[1]), int(sys.argv[2]), open(sys.argv[3], "a")
lock = threading.Lock()


def attributes(pairs):
    found = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        value = getattr(pair.value, kind) if kind else None
        found[pair.key] = [kind, value if isinstance(value, (str, int, float, bool)) else str(value)]
    return found


def take(request, transport, encoding):
    with lock:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    line = {
                        "transport": transport,
                        "encoding": encoding,
                        "resource": attributes(resource.resource.attributes),
                        "scope": scope.scope.name,
                        "name": span.name,
                        "kind": span.kind,
                        "trace_id": span.trace_id.hex(),
                        "span_id": span.span_id.hex(),
                        "parent_span_id": span.parent_span_id.hex(),
                        "flags": span.flags,
                        "start": span.start_time_unix_nano,
                        "end": span.end_time_unix_nano,
                        "status": span.status.code,
                        "attributes": attributes(span.attributes),
                    }
                    out.write(json.dumps(line) + "\n")
        out.flush()


class Service(rpc.TraceServiceServicer):
    def Export(self, request, context):
        # grpcio undoes the compression and does not say which one it was.
        take(request, "grpc", "unknown")
        return service.ExportTraceServiceResponse()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def do_POST(self):
        body = self.body()
        encoding = self.headers.get("Content-Encoding", "identity")
        status = 200
        try:
            if self.path != "/v1/traces":
                raise ValueError(self.path)
            plain = gzip.decompress(body) if encoding == "gzip" else body
            if self.headers.get("Content-Type") == "application/json":
                request = Parse(plain, service.ExportTraceServiceRequest())
            else:
                request = service.ExportTraceServiceRequest.FromString(plain)
            take(request, "http", encoding)
        except Exception as error:
            print(f"refused: {error}", flush=True)
            status = 400
        self.send_response(status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


server = grpc.server(futures.ThreadPoolExecutor(4))
rpc.add_TraceServiceServicer_to_server(Service(), server)
if server.add_insecure_port(f"127.0.0.1:{grpc_port}") != grpc_port:
    sys.exit(f"port {grpc_port} is taken")
server.start()
ThreadingHTTPServer(("127.0.0.1", http_port), Handler).serve_forever()
