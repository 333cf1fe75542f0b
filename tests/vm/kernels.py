"""Debian's kernels, a QEMU and, for another architecture, a root: from the mirror that this machine's apt uses; unpacked, never installed."""
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "spanwire/vm"
SUITES = ("bullseye", "bookworm", "bookworm-backports", "trixie", "trixie-backports")
SECURITY = ("bullseye-security", "bookworm-security", "trixie-security")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
IMAGE = re.compile(r"^linux-image-(\d+\.\d+\.\d+\S*)$")
FRESH = 86400
# What a root of another architecture holds, and what that depends on.
ROOT = ("base-files", "base-passwd", "bash", "busybox-static", "coreutils", "curl", "dash", "findutils", "grep", "iproute2", "kmod", "mawk",
        "mount", "nftables", "nginx", "procps", "python3", "sed", "util-linux")


class Arch(NamedTuple):
    """What differs between guests."""
    name: str
    target: str  # Rust's name of it
    emulator: str
    packages: tuple
    machine: tuple
    memory: str
    console: str
    line: str


ARCHES = {one.name: one for one in (
    Arch("amd64", "x86_64-unknown-linux-gnu", "qemu-system-x86_64", ("qemu-system-x86", "seabios"), ("-cpu", "max,la57=off"), "3G", "ttyS0",
         "tsc=reliable no_timer_check random.trust_cpu=on"),
    # pauth-impdef: pointer authentication by a hash that is cheap to emulate
    Arch("arm64", "aarch64-unknown-linux-gnu", "qemu-system-aarch64", ("qemu-system-arm",), ("-M", "virt", "-cpu", "max,pauth-impdef=on"), "2G",
         "ttyAMA0", "random.trust_cpu=on"),
)}
HOST = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]


def numbers(version):
    return [int(part) for part in re.findall(r"\d+", version)]


class Apt:
    """An apt of its own for one architecture: lists and downloads lie in the cache."""

    def __init__(self, architecture):
        self.architecture = architecture
        self.home = CACHE / f"apt-{architecture}"
        self.environment = {**os.environ, "APT_CONFIG": str(self.home / "apt.conf")}
        if not (self.home / "done").exists() or (self.home / "done").stat().st_mtime < time.time() - FRESH:
            self.prepare()

    @staticmethod
    def mirror():
        """(of the distribution, of its security updates)"""
        lines = subprocess.run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)", "Created-By: Packages"],
                               capture_output=True, text=True, check=True).stdout.splitlines()
        found = {}
        for line in lines:
            uri, label = line.split(" ", 1)
            found.setdefault(label, uri.rstrip("/"))
        if "Debian" not in found:
            raise SystemExit("vm: this machine's apt has no Debian mirror to fetch kernels from")
        return found["Debian"], found.get("Debian-Security")

    def prepare(self):
        for name in ("etc/apt.conf.d", "etc/sources.list.d", "etc/preferences.d", "state/lists/partial", "cache/archives/partial"):
            (self.home / name).mkdir(parents=True, exist_ok=True)
        (self.home / "status").touch()
        main, security = self.mirror()
        sources = [f"deb [signed-by={KEYRING}] {main} {suite} main" for suite in SUITES]
        sources += [f"deb [signed-by={KEYRING}] {security} {suite} main" for suite in SECURITY if security]
        (self.home / "etc/sources.list").write_text("\n".join(sources) + "\n")
        (self.home / "apt.conf").write_text(
            f'Dir "{self.home}"; Dir::Etc "{self.home}/etc"; Dir::State "{self.home}/state"; Dir::State::status "{self.home}/status";\n'
            f'Dir::Cache "{self.home}/cache"; APT::Architecture "{self.architecture}"; APT::Architectures {{ "{self.architecture}"; }};\n'
            'APT::Sandbox::User "root"; Acquire::Languages "none";\n')
        self.get("update", "-q", check=False)
        (self.home / "done").touch()

    def get(self, *arguments, cwd=None, check=True):
        subprocess.run(["apt-get", *arguments], env=self.environment, cwd=cwd, check=check, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def names(self, prefix):
        out = subprocess.run(["apt-cache", "pkgnames", prefix], env=self.environment, capture_output=True, text=True, check=True).stdout
        return out.split()

    def closure(self, place, *packages):
        """Unpacks the packages and all that they depend on there. No script of theirs runs: this machine cannot."""
        place.mkdir(parents=True, exist_ok=True)
        self.get("clean")
        self.get("install", "-q", "-y", "--download-only", "--no-install-recommends", *packages)
        archives = sorted((self.home / "cache/archives").glob("*.deb"), key=lambda one: (not one.name.startswith("base-files_"), one.name))
        for archive in archives:  # base-files first: /bin and /lib are links of it
            subprocess.run(["dpkg-deb", "-x", archive, place], check=True)
        self.get("clean")

    def unpack(self, place, *packages):
        """Downloads the packages and unpacks them there. Sizes of the archives by package."""
        place.mkdir(parents=True, exist_ok=True)
        sizes = {}
        for package in packages:
            self.get("download", "-q", package, cwd=place)
            archive = next(place.glob("*.deb"))
            sizes[package] = archive.stat().st_size
            subprocess.run(["dpkg-deb", "-x", archive, place], check=True)
            archive.unlink()
        return sizes


def available(apt):
    """Generic kernels, oldest first. Cloud kernels have no 9p."""
    found = (IMAGE.match(name) for name in apt.names("linux-image-"))
    suffix = f"-{apt.architecture}"
    wanted = {match[1] for match in found if match and match[1].endswith(suffix) and not re.search(r"-(cloud|rt|dbg|16k)", match[1])}
    return sorted(wanted, key=numbers)


def newest(apt, series):
    """Of a series as 6.1; of all for `newest`; None if there is none."""
    fits = [one for one in available(apt) if series == "newest" or re.match(re.escape(series) + r"([.+-]|$)", one)]
    return fits[-1] if fits else None


def fetch(apt, version):
    """The directory with the kernel's files."""
    place = CACHE / version
    if not (place / "done").exists():
        shutil.rmtree(place, ignore_errors=True)
        package = f"linux-image-{version}"
        if apt.unpack(place, package)[package] < 1_000_000:  # newer ones are in parts
            apt.unpack(place, *(f"linux-{part}-{version}" for part in ("base", "binary", "modules")))
        if not (place / "lib").exists():
            (place / "lib").symlink_to("usr/lib")
        subprocess.run(["depmod", "-b", place, version], check=True)
        (place / "done").touch()
    return place


def qemu(arch):
    """The emulator as a command, 10 or newer: 7.2's threads see code that another one patches half patched, and the guest panics."""
    if "QEMU" in os.environ:
        return [os.environ["QEMU"]]
    said = subprocess.run([arch.emulator, "--version"], capture_output=True, text=True, check=True).stdout
    if numbers(said)[0] >= 10:
        return [arch.emulator]
    place = CACHE / f"qemu-{arch.name}"
    if not (place / "done").exists():
        apt = Apt(HOST)
        for package in (*arch.packages, "qemu-system-common", "qemu-system-data"):
            apt.unpack(place, f"{package}/bookworm-backports" if package.startswith("qemu") else package)
        (place / "done").touch()
    return [f"{place}/usr/bin/{arch.emulator}", "-L", f"{place}/usr/share/qemu", "-L", f"{place}/usr/share/seabios", "-L", "/usr/share/qemu"]


def root(arch):
    """The directory that a guest has as its root: this machine's, or for another architecture a small one of its own."""
    if arch.name == HOST:
        return Path("/")
    place = CACHE / f"root-{arch.name}"
    done = place / ".done"
    if not done.exists() or done.read_text() != " ".join(ROOT):
        shutil.rmtree(place, ignore_errors=True)
        Apt(arch.name).closure(place, *ROOT)
        for name in ("passwd", "group"):  # what scripts of the packages would do
            shutil.copy(place / f"usr/share/base-passwd/{name}.master", place / "etc" / name)
        (place / "usr/bin/awk").symlink_to("mawk")
        (place / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
        done.write_text(" ".join(ROOT))
    return place
