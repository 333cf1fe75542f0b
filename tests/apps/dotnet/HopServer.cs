using System;
using System.Collections.Concurrent;
using System.Globalization;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Threading.Tasks;

/// A server and a client on asynchronous sockets: what follows on a wait goes on in any thread of the pool, as in Kestrel and HttpClient.
/// (HttpClient wants an OpenSSL that distributions no longer have; HttpListener fails when a connection comes too early.)
public static class HopServer {
    static readonly string Service = Setting("SERVICE", "");
    static readonly Uri Next = Setting("NEXT", "") == "" ? null : new Uri(Setting("NEXT", ""));
    static readonly ConcurrentBag<Connection> Idle = new ConcurrentBag<Connection>();

    static string Setting(string key, string fallback) {
        return Environment.GetEnvironmentVariable(key) ?? fallback;
    }

    /// Messages of one connection, one after the other.
    sealed class Connection {
        readonly TcpClient socket;
        readonly NetworkStream stream;
        readonly byte[] buffer = new byte[16384];
        int used = 0;

        public Connection(TcpClient socket) {
            socket.NoDelay = true;
            this.socket = socket;
            stream = socket.GetStream();
        }

        public void Close() {
            socket.Close();
        }

        /// The first line and the body, or null when the peer is gone.
        public async Task<string[]> Receive() {
            while (true) {
                string text = Encoding.ASCII.GetString(buffer, 0, used);
                int head = text.IndexOf("\r\n\r\n");
                if (head >= 0) {
                    string[] lines = text.Substring(0, head).Split(new[] {"\r\n"}, StringSplitOptions.None);
                    int length = 0;
                    foreach (string line in lines)
                        if (line.StartsWith("content-length:", StringComparison.OrdinalIgnoreCase))
                            length = int.Parse(line.Substring(15).Trim(), CultureInfo.InvariantCulture);
                    if (used >= head + 4 + length) {
                        used -= head + 4 + length;
                        Buffer.BlockCopy(buffer, head + 4 + length, buffer, 0, used);
                        return new[] {lines[0], text.Substring(head + 4, length)};
                    }
                }
                int got = await stream.ReadAsync(buffer, used, buffer.Length - used);
                if (got == 0)
                    return null;
                used += got;
            }
        }

        public async Task Send(string text) {
            byte[] bytes = Encoding.ASCII.GetBytes(text);
            await stream.WriteAsync(bytes, 0, bytes.Length);
        }
    }

    static async Task<string> Call(string path) {
        Connection connection;
        if (!Idle.TryTake(out connection)) {
            var socket = new TcpClient();
            await socket.ConnectAsync(IPAddress.Loopback, Next.Port);
            connection = new Connection(socket);
        }
        await connection.Send("GET " + path + " HTTP/1.1\r\nHost: " + Next.Authority + "\r\n\r\n");
        string[] answer = await connection.Receive();
        if (answer == null || !answer[0].Contains(" 200 ")) {
            connection.Close();
            throw new IOException(answer == null ? "closed" : answer[0]);
        }
        Idle.Add(connection);
        return answer[1];
    }

    static async Task Serve(TcpClient socket) {
        var connection = new Connection(socket);
        try {
            string[] request;
            while ((request = await connection.Receive()) != null) {
                string path = request[0].Split(' ')[1], status = "200 OK", text;
                try {
                    bool forward = Next != null && !path.StartsWith("/bg/");
                    text = Service + " " + (forward ? await Call(path) : path);
                } catch (Exception e) {
                    status = "502 Bad Gateway";
                    text = e.Message;
                }
                await connection.Send("HTTP/1.1 " + status + "\r\nContent-Length: " + text.Length + "\r\n\r\n" + text);
            }
        } catch (IOException) {
            // the peer has reset it
        }
        connection.Close();
    }

    static async Task Background() {
        double hz = double.Parse(Setting("BG_HZ", "0"), CultureInfo.InvariantCulture);
        long limit = Next == null ? 0 : (long) (hz * double.Parse(Setting("BG_SECONDS", "600"), CultureInfo.InvariantCulture));
        int pid = System.Diagnostics.Process.GetCurrentProcess().Id;
        DateTime start = DateTime.UtcNow;
        for (long n = 0; n < limit; n++) {
            TimeSpan left = start.AddSeconds(n / hz) - DateTime.UtcNow;
            if (left > TimeSpan.Zero)
                await Task.Delay(left);
            try {
                await Call("/bg/" + Service + "/" + pid + "-" + n);
            } catch (Exception e) {
                Console.WriteLine("background: " + e.Message);
                await Task.Delay(200);
            }
        }
    }

    static async Task Accept(TcpListener listener) {
        while (true) {
            TcpClient socket = await listener.AcceptTcpClientAsync();
            Task.Run(() => Serve(socket));
        }
    }

    public static void Main() {
        var listener = new TcpListener(IPAddress.Loopback, int.Parse(Setting("PORT", "0"), CultureInfo.InvariantCulture));
        listener.Start(256);
        Task.Run(Background);
        Accept(listener).Wait();
    }
}
