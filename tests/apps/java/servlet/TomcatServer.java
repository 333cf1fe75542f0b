import jakarta.servlet.AsyncContext;
import jakarta.servlet.DispatcherType;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.nio.file.Files;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import org.apache.catalina.Context;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.startup.Tomcat;
import org.apache.tomcat.util.threads.VirtualThreadExecutor;

/** Tomcat as Spring Boot has it: one thread polls, a pool's thread reads the request and serves it. */
public class TomcatServer extends HttpServlet {
    // Each request is left by the thread that read it, and taken up again by any of the pool.
    private static final boolean LATER = Hop.env("SERVLETS", "").equals("asynchronous");
    private static final ScheduledExecutorService CLOCK = Executors.newSingleThreadScheduledExecutor();

    @Override
    protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
        request.getInputStream().readAllBytes();
        if (LATER && request.getDispatcherType() != DispatcherType.ASYNC) {
            AsyncContext rest = request.startAsync();
            CLOCK.schedule(() -> rest.dispatch(), 30, TimeUnit.MILLISECONDS);
            return;
        }
        Hop.Answer answer = Hop.serve(request.getRequestURI());
        response.setStatus(answer.status());
        response.setContentLength(answer.body().length);
        response.getOutputStream().write(answer.body());
    }

    public static void main(String[] args) throws Exception {
        Tomcat tomcat = new Tomcat();
        tomcat.setBaseDir(Files.createTempDirectory("tomcat").toString());
        Connector connector = new Connector();
        connector.setProperty("address", "127.0.0.1");
        connector.setPort(Hop.PORT);
        // of Java 21 and newer
        if (Hop.env("THREADS", "").equals("virtual")) connector.getProtocolHandler().setExecutor(new VirtualThreadExecutor("tomcat-handler-"));
        tomcat.setConnector(connector);
        Context context = tomcat.addContext("", null);
        Tomcat.addServlet(context, "hop", new TomcatServer()).setAsyncSupported(true);
        context.addServletMappingDecoded("/*", "hop");
        tomcat.start();
        Hop.background();
        tomcat.getServer().await();
    }
}
