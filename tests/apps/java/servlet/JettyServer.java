import java.io.IOException;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import org.eclipse.jetty.server.Request;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.server.handler.AbstractHandler;

/** Jetty: the thread that polls may serve the request itself, while another one goes on polling. */
public class JettyServer extends AbstractHandler {
    @Override
    public void handle(String target, Request base, HttpServletRequest request, HttpServletResponse response) throws IOException {
        request.getInputStream().readAllBytes();
        Hop.Answer answer = Hop.serve(target);
        response.setStatus(answer.status());
        response.setContentLength(answer.body().length);
        response.getOutputStream().write(answer.body());
        base.setHandled(true);
    }

    public static void main(String[] args) throws Exception {
        Server server = new Server();
        ServerConnector connector = new ServerConnector(server);
        connector.setHost("127.0.0.1");
        connector.setPort(Hop.PORT);
        server.addConnector(connector);
        server.setHandler(new JettyServer());
        server.start();
        Hop.background();
        server.join();
    }
}
