import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.security.MessageDigest;
import java.util.Arrays;
import java.util.HexFormat;

class Client {
    static final HttpClient CLIENT = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    static String sum(byte[] data) throws Exception {
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(data));
    }

    static void must(boolean holds, String what) {
        if (!holds) throw new IllegalStateException(what);
    }

    static HttpResponse<byte[]> call(String url, byte[] body) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(url));
        if (body != null) request.POST(BodyPublishers.ofByteArray(body));
        return CLIENT.send(request.build(), BodyHandlers.ofByteArray());
    }

    public static void main(String[] args) throws Exception {
        for (int number = 0; number < Integer.parseInt(args[1]); number++) {
            must(new String(call(args[0] + "/get/" + number, null).body()).equals("ok"), "get");
            byte[] body = new byte[300000];
            Arrays.fill(body, (byte) number);
            must(new String(call(args[0] + "/upload/" + number, body).body()).equals(sum(body)), "upload");
            var answer = call(args[0] + "/download/" + number, null);
            must(answer.headers().firstValue("x-sum").orElseThrow().equals(sum(answer.body())), "download");
        }
    }
}
