"""A collector behind TLS, with a CA of its own."""
import http.server
import ssl
import subprocess
import threading


def certificates(directory):
    """(CA, certificate of otelcol, its key)"""
    ca, certificate, key, request = (directory / name for name in ("ca.pem", "cert.pem", "key.pem", "request.pem"))

    def openssl(*line):
        subprocess.run(["openssl", *line], check=True, capture_output=True, timeout=30)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *curve, "-keyout", directory / "ca.key", "-out", ca, "-subj", "/CN=test", "-days", "2")
    openssl("req", *curve, "-keyout", key, "-out", request, "-subj", "/CN=otelcol")
    extensions = directory / "extensions"
    extensions.write_text("subjectAltName=DNS:otelcol\n")
    openssl("x509", "-req", "-in", request, "-CA", ca, "-CAkey", directory / "ca.key", "-out", certificate, "-days", "2", "-extfile", extensions)
    return ca, certificate, key


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Collector:
    """`bodies` is what it was sent."""

    def __init__(self, certificate, key):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.server.bodies = self.bodies = []
        self.url = f"https://otelcol:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
