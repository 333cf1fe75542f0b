import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import io.grpc.ClientInterceptors;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;

/** Calls rig.Echo; see ../README.md: Client HOST:PORT COUNT LEVEL. */
public class Client {
    static final MethodDescriptor.Marshaller<byte[]> BYTES = new MethodDescriptor.Marshaller<>() {
        public InputStream stream(byte[] value) {
            return new ByteArrayInputStream(value);
        }

        public byte[] parse(InputStream stream) {
            try {
                return stream.readAllBytes();
            } catch (IOException fault) {
                throw new UncheckedIOException(fault);
            }
        }
    };
    static final MethodDescriptor<byte[], byte[]> CALL = MethodDescriptor.newBuilder(BYTES, BYTES)
        .setType(MethodType.UNARY).setFullMethodName("rig.Echo/Call").build();
    static final MethodDescriptor<byte[], byte[]> STREAM = MethodDescriptor.newBuilder(BYTES, BYTES)
        .setType(MethodType.BIDI_STREAMING).setFullMethodName("rig.Echo/Stream").build();
    static final Metadata.Key<String> ID = Metadata.Key.of("x-id", Metadata.ASCII_STRING_MARSHALLER);

    static byte[] body(int number) {
        byte[] body = new byte[number % 50 == 7 ? 70000 : number * 7 % 600];
        Arrays.fill(body, (byte) number);
        return body;
    }

    static void one(ManagedChannel plain, int number) throws Exception {
        Metadata fields = new Metadata();
        fields.put(ID, Integer.toString(number));
        Channel channel = ClientInterceptors.intercept(plain, MetadataUtils.newAttachHeadersInterceptor(fields));
        List<byte[]> sent = new ArrayList<>(), got = new ArrayList<>();
        if (number % 10 == 9) {
            CompletableFuture<Void> end = new CompletableFuture<>();
            StreamObserver<byte[]> out = ClientCalls.asyncBidiStreamingCall(channel.newCall(STREAM, CallOptions.DEFAULT), new StreamObserver<byte[]>() {
                public void onNext(byte[] message) {
                    got.add(message);
                }

                public void onError(Throwable fault) {
                    end.completeExceptionally(fault);
                }

                public void onCompleted() {
                    end.complete(null);
                }
            });
            for (int next = number; next < number + 3; next++) {
                sent.add(body(next));
                out.onNext(body(next));
            }
            out.onCompleted();
            end.get();
        } else {
            sent.add(body(number));
            got.add(ClientCalls.blockingUnaryCall(channel, CALL, CallOptions.DEFAULT, body(number)));
        }
        boolean same = sent.size() == got.size();
        for (int at = 0; same && at < sent.size(); at++) {
            same = Arrays.equals(sent.get(at), got.get(at));
        }
        if (!same) {
            throw new IllegalStateException("other bytes came back");
        }
    }

    public static void main(String[] arguments) throws Exception {
        int count = Integer.parseInt(arguments[1]), level = Integer.parseInt(arguments[2]);
        ManagedChannel channel = ManagedChannelBuilder.forTarget(arguments[0]).usePlaintext().build();
        ConcurrentLinkedQueue<String> errors = new ConcurrentLinkedQueue<>();
        List<Thread> workers = new ArrayList<>();
        for (int worker = 0; worker < level; worker++) {
            int first = worker;
            workers.add(new Thread(() -> {
                for (int number = first; number < count; number += level) {
                    try {
                        one(channel, number);
                    } catch (Exception fault) {
                        errors.add(number + ": " + fault);
                    }
                }
            }));
        }
        for (Thread worker : workers) {
            worker.start();
        }
        for (Thread worker : workers) {
            worker.join();
        }
        channel.shutdownNow();
        if (!errors.isEmpty()) {
            System.out.println(errors.size() + " errors: " + errors.peek());
            System.exit(1);
        }
    }
}
