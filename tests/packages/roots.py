"""Small Debians with systemd, as roots of guests: made by mmdebstrap from the mirror that this machine's apt uses, once for each list."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vm"))
import kernels  # noqa: E402

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "spanwire/packages"
HELD = "systemd,systemd-sysv,dbus,procps,iproute2,curl,python3,rpm"


def root(suite):
    place = CACHE / suite
    done = place / ".done"
    if not done.exists() or done.read_text() != HELD:
        shutil.rmtree(place, ignore_errors=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        print(f"making a root of Debian {suite}: a few minutes, once", flush=True)
        mirror, security = kernels.Apt.mirror()
        sources = [f"deb [signed-by={kernels.KEYRING}] {mirror} {suite} main"]
        sources += [f"deb [signed-by={kernels.KEYRING}] {security} {suite}-security main"] if security else []
        # in a root of its own right, as it is made by the root of this machine
        subprocess.run(["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={HELD}", suite, place, *sources],
                       check=True, timeout=1200)
        # rpm of Debian warns of a database that alien would not have
        (place / "etc/apt/sources.list").unlink(missing_ok=True)
        done.write_text(HELD)
    return place
