import io.grpc.CallOptions;
import io.grpc.HandlerRegistry;
import io.grpc.ManagedChannel;
import io.grpc.MethodDescriptor;
import io.grpc.Server;
import io.grpc.ServerMethodDefinition;
import io.grpc.Status;
import io.grpc.netty.NettyChannelBuilder;
import io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.ServerCalls;
import io.grpc.stub.StreamObserver;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

/** grpc-java on Netty: any method, messages are bytes; a pool of threads serves and calls the next hop blocking. */
public final class GrpcServer {
    static final String PREFIX = "hop.Chain/";
    static final String SERVICE = System.getenv("SERVICE");
    static final String NEXT = env("NEXT", "").replace("http://", "");
    static ManagedChannel channel;

    static final MethodDescriptor.Marshaller<byte[]> BYTES = new MethodDescriptor.Marshaller<>() {
        @Override
        public InputStream stream(byte[] value) {
            return new ByteArrayInputStream(value);
        }

        @Override
        public byte[] parse(InputStream stream) {
            try {
                return stream.readAllBytes();
            } catch (IOException e) {
                throw Status.INTERNAL.withCause(e).asRuntimeException();
            }
        }
    };

    static String env(String key, String fallback) {
        String value = System.getenv(key);
        return value == null ? fallback : value;
    }

    static MethodDescriptor<byte[], byte[]> method(String name) {
        return MethodDescriptor.newBuilder(BYTES, BYTES)
            .setType(MethodDescriptor.MethodType.UNARY)
            .setFullMethodName(name)
            .build();
    }

    static String call(String name) {
        CallOptions options = CallOptions.DEFAULT.withDeadlineAfter(20, TimeUnit.SECONDS);
        byte[] answer = ClientCalls.blockingUnaryCall(channel, method(name), options, new byte[0]);
        return new String(answer, StandardCharsets.UTF_8);
    }

    static void serve(String name, StreamObserver<byte[]> out) {
        try {
            boolean forward = channel != null && !name.startsWith(PREFIX + "bg-");
            String body = SERVICE + " " + (forward ? call(name) : "/" + name);
            out.onNext(body.getBytes(StandardCharsets.UTF_8));
            out.onCompleted();
        } catch (RuntimeException e) {
            out.onError(Status.UNAVAILABLE.withDescription(e.toString()).asRuntimeException());
        }
    }

    static final class Any extends HandlerRegistry {
        @Override
        public ServerMethodDefinition<?, ?> lookupMethod(String name, String authority) {
            return ServerMethodDefinition.create(
                method(name), ServerCalls.asyncUnaryCall((byte[] request, StreamObserver<byte[]> out) -> serve(name, out)));
        }
    }

    public static void main(String[] args) throws Exception {
        if (!NEXT.isEmpty()) {
            channel = NettyChannelBuilder.forTarget("dns:///" + NEXT).usePlaintext().proxyDetector(address -> null).build();
        }
        Server server = NettyServerBuilder.forAddress(new InetSocketAddress("127.0.0.1", Integer.parseInt(System.getenv("PORT"))))
            .executor(Executors.newFixedThreadPool(80))
            .fallbackHandlerRegistry(new Any())
            .build()
            .start();
        double hz = Double.parseDouble(env("BG_HZ", "0"));
        if (channel != null && hz > 0) {
            long count = (long) (hz * Double.parseDouble(env("BG_SECONDS", "600")));
            AtomicLong n = new AtomicLong();
            ScheduledExecutorService timer = Executors.newSingleThreadScheduledExecutor();
            timer.scheduleAtFixedRate(() -> {
                if (n.get() >= count) {
                    timer.shutdown();
                    return;
                }
                try {
                    call(PREFIX + "bg-" + SERVICE + "-" + ProcessHandle.current().pid() + "-" + n.getAndIncrement());
                } catch (RuntimeException e) {
                    System.err.println("background: " + e);
                }
            }, 0, (long) (1e9 / hz), TimeUnit.NANOSECONDS);
        }
        server.awaitTermination();
    }
}
