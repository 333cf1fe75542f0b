import java.io.IOException;
import java.net.HttpURLConnection;
import java.net.URI;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

/** What a hop does, whatever serves it: it calls the next one on the thread that was given the request. */
final class Hop {
    static final int PORT = Integer.parseInt(env("PORT", "0"));
    static final String NEXT = env("NEXT", "");
    static final String SERVICE = env("SERVICE", "");
    private static long sent = 0;

    private Hop() {}

    /** An answer: its status, and its body. */
    record Answer(int status, byte[] body) {}

    static String env(String key, String fallback) {
        String value = System.getenv(key);
        return value == null ? fallback : value;
    }

    private static String call(String path) throws IOException {
        HttpURLConnection connection = (HttpURLConnection) URI.create(NEXT + path).toURL().openConnection();
        connection.setReadTimeout(20_000);
        if (connection.getResponseCode() != 200) throw new IOException("status " + connection.getResponseCode());
        return new String(connection.getInputStream().readAllBytes());
    }

    static Answer serve(String path) {
        try {
            boolean forward = !NEXT.isEmpty() && !path.startsWith("/bg/");
            return new Answer(200, (SERVICE + " " + (forward ? call(path) : path)).getBytes());
        } catch (IOException e) {
            return new Answer(502, e.toString().getBytes());
        }
    }

    /** Calls of its own, which belong to no request. */
    static void background() {
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
            } catch (IOException e) {
                System.err.println("background: " + e);
            }
        }, 0, (long) (1e6 / hz), TimeUnit.MICROSECONDS);
    }
}
