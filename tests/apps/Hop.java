import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/** The same hop on the JDK's server, with a pool of threads, and its asynchronous client. */
public class Hop {
  public static void main(String[] args) throws Exception {
    String next = System.getenv().getOrDefault("NEXT", "");
    HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    int port = Integer.parseInt(System.getenv("PORT"));
    HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 256);
    server.setExecutor(Executors.newFixedThreadPool(64));
    server.createContext("/", exchange -> {
      byte[] body = "end".getBytes();
      int status = 200;
      if (!next.isEmpty()) {
        try {
          HttpRequest request = HttpRequest.newBuilder(URI.create(next + exchange.getRequestURI().getPath())).build();
          HttpResponse<byte[]> response = client.send(request, HttpResponse.BodyHandlers.ofByteArray());
          status = response.statusCode();
          body = response.body();
        } catch (InterruptedException e) {
          status = 502;
        }
      }
      exchange.sendResponseHeaders(status, body.length);
      exchange.getResponseBody().write(body);
      exchange.close();
    });
    server.start();
    double hertz = Double.parseDouble(System.getenv().getOrDefault("BG_HZ", "0"));
    if (!next.isEmpty() && hertz > 0) {
      AtomicInteger count = new AtomicInteger();
      Executors.newSingleThreadScheduledExecutor().scheduleAtFixedRate(() -> {
        URI uri = URI.create(next + "/bg/" + ProcessHandle.current().pid() + "-" + count.incrementAndGet());
        client.sendAsync(HttpRequest.newBuilder(uri).build(), HttpResponse.BodyHandlers.discarding());
      }, 100, (long) (1000 / hertz), TimeUnit.MILLISECONDS);
    }
  }
}
