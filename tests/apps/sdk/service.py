"""A service with the OpenTelemetry SDK: PORT NEXT SAMPLER. Writes each span as a line of JSON."""
import http.client
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from opentelemetry.trace import SpanKind, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

port, following, sampler = sys.argv[1:4]


class Lines(SpanExporter):
    def export(self, spans):
        for span in spans:
            line = json.dumps({
                "trace_id": f"{span.context.trace_id:032x}", "span_id": f"{span.context.span_id:016x}", "name": span.name,
                "parent_span_id": f"{span.parent.span_id:016x}" if span.parent else None, "kind": span.kind.name.lower()})
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
        return SpanExportResult.SUCCESS


provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF if sampler == "off" else ALWAYS_ON))
provider.add_span_processor(SimpleSpanProcessor(Lines()))
tracer, propagator = provider.get_tracer("service"), TraceContextTextMapPropagator()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        context = propagator.extract({name.lower(): value for name, value in self.headers.items()})
        with tracer.start_as_current_span(self.path, context, SpanKind.SERVER) as server:
            with tracer.start_as_current_span(self.path, set_span_in_context(server), SpanKind.CLIENT) as client:
                headers = {}
                propagator.inject(headers, set_span_in_context(client))
                connection = http.client.HTTPConnection(following)
                connection.request("GET", self.path, headers=headers)
                connection.getresponse().read()
                connection.close()
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


ThreadingHTTPServer.request_queue_size = 128
ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
