// A service with the OpenTelemetry SDK: PORT NEXT SAMPLER. Writes each span as a line of JSON.
package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/propagation"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

type lines struct{ sync.Mutex }

func (l *lines) ExportSpans(_ context.Context, spans []sdk.ReadOnlySpan) error {
	l.Lock()
	defer l.Unlock()
	for _, span := range spans {
		line := map[string]any{
			"trace_id": span.SpanContext().TraceID().String(),
			"span_id":  span.SpanContext().SpanID().String(),
			"name":     span.Name(),
			"kind":     strings.ToLower(span.SpanKind().String()),
		}
		if span.Parent().IsValid() {
			line["parent_span_id"] = span.Parent().SpanID().String()
		}
		if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
			return err
		}
	}
	return nil
}

func (*lines) Shutdown(context.Context) error { return nil }

func main() {
	port, following, root := os.Args[1], os.Args[2], sdk.AlwaysSample()
	if os.Args[3] == "off" {
		root = sdk.NeverSample()
	}
	provider := sdk.NewTracerProvider(sdk.WithSampler(sdk.ParentBased(root)), sdk.WithSyncer(&lines{}))
	tracer, propagator := provider.Tracer("service"), propagation.TraceContext{}
	handle := func(w http.ResponseWriter, r *http.Request) {
		ctx := propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, server := tracer.Start(ctx, r.URL.Path, trace.WithSpanKind(trace.SpanKindServer))
		defer server.End()
		ctx, client := tracer.Start(ctx, r.URL.Path, trace.WithSpanKind(trace.SpanKindClient))
		defer client.End()
		call, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+following+r.URL.Path, nil)
		if err == nil {
			propagator.Inject(ctx, propagation.HeaderCarrier(call.Header))
			var answer *http.Response
			if answer, err = http.DefaultClient.Do(call); err == nil {
				_, err = io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
			}
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:"+port, http.HandlerFunc(handle)))
}
