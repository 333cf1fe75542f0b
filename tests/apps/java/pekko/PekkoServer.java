import com.typesafe.config.ConfigFactory;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import org.apache.pekko.actor.ActorSystem;
import org.apache.pekko.http.javadsl.Http;
import org.apache.pekko.http.javadsl.model.HttpRequest;
import org.apache.pekko.http.javadsl.model.HttpResponse;

/** Pekko HTTP: a selector's thread polls, threads of a pool read, serve and answer, each step on any of them. */
public class PekkoServer {
    static Http http;
    static ActorSystem system;

    static CompletionStage<String> call(String path) {
        if (Hop.env("CLIENT", "").equals("blocking"))
            return CompletableFuture.supplyAsync(() -> new String(Hop.serve(path).body()), system.dispatcher());
        return http.singleRequest(HttpRequest.create(Hop.NEXT + path))
            .thenCompose(answer -> answer.entity().toStrict(20_000, system))
            .thenApply(entity -> entity.getData().utf8String());
    }

    static CompletionStage<HttpResponse> serve(HttpRequest request) {
        String path = request.getUri().path();
        boolean forward = !Hop.NEXT.isEmpty() && !path.startsWith("/bg/");
        CompletionStage<String> rest = forward ? call(path) : CompletableFuture.completedFuture(path);
        return rest.thenApply(text -> HttpResponse.create().withEntity(Hop.SERVICE + " " + text));
    }

    public static void main(String[] args) {
        String limits = "pekko.http.host-connection-pool { max-connections = 256, max-open-requests = 1024 }";
        system = ActorSystem.create("hop", ConfigFactory.parseString(limits).withFallback(ConfigFactory.load()));
        http = Http.get(system);
        http.newServerAt("127.0.0.1", Hop.PORT).bind(PekkoServer::serve);
        double hz = Double.parseDouble(Hop.env("BG_HZ", "0"));
        if (Hop.NEXT.isEmpty() || hz <= 0) return;
        long limit = (long) (hz * Double.parseDouble(Hop.env("BG_SECONDS", "600")));
        long pid = ProcessHandle.current().pid();
        long[] sent = {0};
        system.scheduler().scheduleAtFixedRate(Duration.ZERO, Duration.ofNanos((long) (1e9 / hz)), () -> {
            if (sent[0] < limit)
                http.singleRequest(HttpRequest.create(Hop.NEXT + "/bg/" + Hop.SERVICE + "/" + pid + "-" + sent[0]++))
                    .thenAccept(answer -> answer.discardEntityBytes(system));
        }, system.dispatcher());
    }
}
