"""buildah and podman with a store of their own, so that nothing of this machine's engine is used or changed."""
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TOOLS = ("buildah", "podman", "runc", "docker-compose", "busybox", "openssl")


class Engine:
    def __init__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="spanwire-image-"))
        store = self.directory / "storage.conf"
        store.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{self.directory}/graph"\nrunroot = "{self.directory}/run"\n')
        # podman's own limits are more than a machine without CAP_SYS_RESOURCE may set.
        self.limits = ["--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096"]
        # Of the runtimes runc alone runs on hybrid cgroups.
        engine = self.directory / "containers.conf"
        engine.write_text(f'[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\ntmp_dir = "{self.directory}/tmp"\n'
                          f'[network]\nnetwork_config_dir = "{self.directory}/networks"\n')
        self.environment = {**os.environ, "CONTAINERS_STORAGE_CONF": str(store), "CONTAINERS_CONF": str(engine)}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.podman("rm", "--all", "--force", "--time", "1")
        subprocess.run(["umount", "--recursive", self.directory / "graph/overlay"], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.directory, ignore_errors=True)

    def call(self, *line, **environment):
        return subprocess.run(line, env={**self.environment, **environment}, capture_output=True, text=True, timeout=120)

    def podman(self, *arguments):
        return self.call("podman", *arguments)

    def build(self, name, **binaries):
        """By the script of `make image`."""
        line = [ROOT / "packaging/container/image", name, *(f"{architecture}={path}" for architecture, path in binaries.items())]
        done = self.call(*line, ENGINE="buildah", BUILDAH_ISOLATION="chroot")
        if done.returncode:
            raise RuntimeError(done.stderr)

    def inspect(self, image):
        return json.loads(self.podman("image", "inspect", image).stdout)[0]

    def run(self, image, *command, flags=()):
        """A command to its end."""
        return self.podman("run", "--rm", "--pull=never", *self.limits, *flags, image, *command)


class Container:
    """A container that runs spanwire, traced by its log; `start` returns when it traces or has ended."""

    def __init__(self, engine, name, flags, image, command):
        self.engine, self.name = engine, name
        self.log = engine.directory / f"{name}.log"
        line = ["podman", "run", "--name", name, "--pull=never", *engine.limits, *flags, image, *command]
        self.process = subprocess.Popen(line, env=engine.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(self.log, "wb"))

    def ready(self):
        deadline = time.monotonic() + 60
        while "Ready" not in self.log.read_text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def peak_memory(self):
        """Bytes that its cgroup held at most, BPF maps included; None where the kernel does not tell."""
        pid = self.engine.podman("inspect", "--format", "{{.State.Pid}}", self.name).stdout.strip()
        for row in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, controllers, path = row.split(":", 2)
            places = {"memory": f"/sys/fs/cgroup/memory{path}/memory.max_usage_in_bytes", "": f"/sys/fs/cgroup{path}/memory.peak"}
            file = Path(places.get(controllers, "/nonexistent"))
            if file.exists():
                return int(file.read_text())
        return None

    def stop(self):
        """(exit status, whether memory killed it)"""
        self.engine.podman("stop", "--time", "15", self.name)
        self.process.wait(30)
        said = self.engine.podman("inspect", "--format", "{{.State.ExitCode}} {{.State.OOMKilled}}", self.name).stdout.split()
        self.engine.podman("rm", "--force", self.name)
        return int(said[0]), said[1] == "true"
