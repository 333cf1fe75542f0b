import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

/** JDK HttpServer with a pool of threads; HttpClient, which sends and receives on threads of its own. */
public class Server {
    static final String NEXT = env("NEXT", "");
    static final String SERVICE = env("SERVICE", "");
    static final HttpClient CLIENT = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    static long sent = 0;

    static String env(String key, String fallback) {
        String value = System.getenv(key);
        return value == null ? fallback : value;
    }

    static String call(String path) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(NEXT + path)).timeout(Duration.ofSeconds(20)).build();
        HttpResponse<String> answer = CLIENT.send(request, HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() != 200) throw new IllegalStateException("status " + answer.statusCode());
        return answer.body();
    }

    static void handle(HttpExchange exchange) throws java.io.IOException {
        String path = exchange.getRequestURI().getPath();
        int status = 200;
        String body;
        try {
            boolean forward = !NEXT.isEmpty() && !path.startsWith("/bg/");
            body = SERVICE + " " + (forward ? call(path) : path);
        } catch (Exception e) {
            status = 502;
            body = e.toString();
        }
        byte[] bytes = body.getBytes();
        exchange.getRequestBody().readAllBytes();
        exchange.sendResponseHeaders(status, bytes.length);
        exchange.getResponseBody().write(bytes);
        exchange.close();
    }

    public static void main(String[] args) throws Exception {
        InetSocketAddress address = new InetSocketAddress(InetAddress.getLoopbackAddress(), Integer.parseInt(env("PORT", "")));
        HttpServer server = HttpServer.create(address, 256);
        server.createContext("/", Server::handle);
        server.setExecutor(Executors.newFixedThreadPool(96));
        server.start();
        double hz = Double.parseDouble(env("BG_HZ", "0"));
        long limit = (long) (hz * Double.parseDouble(env("BG_SECONDS", "600")));
        if (NEXT.isEmpty() || hz <= 0) return;
        ScheduledExecutorService timer = Executors.newSingleThreadScheduledExecutor();
        long pid = ProcessHandle.current().pid();
        timer.scheduleAtFixedRate(() -> {
            if (sent >= limit) {
                timer.shutdown();
                return;
            }
            try {
                call("/bg/" + SERVICE + "/" + pid + "-" + sent++);
            } catch (Exception e) {
                System.err.println("background: " + e);
            }
        }, 0, (long) (1e6 / hz), TimeUnit.MICROSECONDS);
    }
}
