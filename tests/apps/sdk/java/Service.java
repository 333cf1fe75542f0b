import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.api.trace.propagation.W3CTraceContextPropagator;
import io.opentelemetry.context.Context;
import io.opentelemetry.context.Scope;
import io.opentelemetry.context.propagation.TextMapGetter;
import io.opentelemetry.sdk.common.CompletableResultCode;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.data.SpanData;
import io.opentelemetry.sdk.trace.export.SimpleSpanProcessor;
import io.opentelemetry.sdk.trace.export.SpanExporter;
import io.opentelemetry.sdk.trace.samplers.Sampler;
import java.io.IOException;
import java.net.HttpURLConnection;
import java.net.InetSocketAddress;
import java.net.URL;
import java.util.Collection;
import java.util.Locale;
import java.util.concurrent.Executors;

/** A service with the OpenTelemetry SDK: PORT NEXT SAMPLER. Writes each span as a line of JSON. */
public class Service {
    static class Lines implements SpanExporter {
        @Override
        public synchronized CompletableResultCode export(Collection<SpanData> spans) {
            for (SpanData span : spans) {
                String parent = span.getParentSpanContext().isValid() ? "\"" + span.getParentSpanId() + "\"" : "null";
                System.out.println("{\"trace_id\":\"" + span.getTraceId() + "\",\"span_id\":\"" + span.getSpanId()
                        + "\",\"parent_span_id\":" + parent + ",\"name\":\"" + span.getName() + "\",\"kind\":\""
                        + span.getKind().name().toLowerCase(Locale.ROOT) + "\"}");
            }
            System.out.flush();
            return CompletableResultCode.ofSuccess();
        }

        @Override
        public CompletableResultCode flush() {
            return CompletableResultCode.ofSuccess();
        }

        @Override
        public CompletableResultCode shutdown() {
            return CompletableResultCode.ofSuccess();
        }
    }

    static final TextMapGetter<HttpExchange> GETTER = new TextMapGetter<>() {
        @Override
        public Iterable<String> keys(HttpExchange exchange) {
            return exchange.getRequestHeaders().keySet();
        }

        @Override
        public String get(HttpExchange exchange, String key) {
            return exchange.getRequestHeaders().getFirst(key);
        }
    };

    public static void main(String[] args) throws IOException {
        Sampler root = args[2].equals("off") ? Sampler.alwaysOff() : Sampler.alwaysOn();
        SdkTracerProvider provider = SdkTracerProvider.builder()
                .setSampler(Sampler.parentBased(root))
                .addSpanProcessor(SimpleSpanProcessor.create(new Lines()))
                .build();
        Tracer tracer = provider.get("service");
        W3CTraceContextPropagator propagator = W3CTraceContextPropagator.getInstance();
        HttpServer http = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])), 128);
        http.setExecutor(Executors.newFixedThreadPool(64));
        http.createContext("/", exchange -> {
            String path = exchange.getRequestURI().getPath();
            Context context = propagator.extract(Context.root(), exchange, GETTER);
            Span server = tracer.spanBuilder(path).setParent(context).setSpanKind(SpanKind.SERVER).startSpan();
            int status = 200;
            try (Scope ignored = server.makeCurrent()) {
                Span client = tracer.spanBuilder(path).setSpanKind(SpanKind.CLIENT).startSpan();
                try (Scope inner = client.makeCurrent()) {
                    HttpURLConnection call = (HttpURLConnection) new URL("http://" + args[1] + path).openConnection();
                    propagator.inject(Context.current(), call, HttpURLConnection::setRequestProperty);
                    call.getInputStream().readAllBytes();
                } catch (IOException error) {
                    status = 502;
                } finally {
                    client.end();
                }
            } finally {
                server.end();
            }
            exchange.sendResponseHeaders(status, -1);
            exchange.close();
        });
        http.start();
    }
}
