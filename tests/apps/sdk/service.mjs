// A service with the OpenTelemetry SDK: PORT NEXT SAMPLER. Writes each span as a line of JSON.
import http from 'node:http';
import { ROOT_CONTEXT, SpanKind, defaultTextMapGetter, defaultTextMapSetter, trace } from '@opentelemetry/api';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import {
  AlwaysOffSampler, AlwaysOnSampler, BasicTracerProvider, ParentBasedSampler, SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base';

const [port, following, sampler] = process.argv.slice(2);

const lines = {
  export(spans, done) {
    for (const span of spans) {
      const { traceId, spanId } = span.spanContext();
      console.log(JSON.stringify({
        trace_id: traceId, span_id: spanId, name: span.name, kind: SpanKind[span.kind].toLowerCase(),
        parent_span_id: span.parentSpanContext?.spanId ?? null,
      }));
    }
    done({ code: 0 });
  },
  shutdown: async () => {},
};

const root = sampler === 'off' ? new AlwaysOffSampler() : new AlwaysOnSampler();
const provider = new BasicTracerProvider({
  sampler: new ParentBasedSampler({ root }), spanProcessors: [new SimpleSpanProcessor(lines)],
});
const tracer = provider.getTracer('service');
const propagator = new W3CTraceContextPropagator();

http.createServer((request, answer) => {
  const context = propagator.extract(ROOT_CONTEXT, request.headers, defaultTextMapGetter);
  const server = tracer.startSpan(request.url, { kind: SpanKind.SERVER }, context);
  const inside = trace.setSpan(context, server);
  const client = tracer.startSpan(request.url, { kind: SpanKind.CLIENT }, inside);
  const headers = {};
  propagator.inject(trace.setSpan(inside, client), headers, defaultTextMapSetter);
  http.get(`http://${following}${request.url}`, { headers, agent: false }, (next) => {
    next.resume();
    next.on('end', () => {
      client.end();
      server.end();
      answer.writeHead(200, { 'Content-Length': 0 });
      answer.end();
    });
  }).on('error', (error) => { throw error; });
}).listen(Number(port), '127.0.0.1');
