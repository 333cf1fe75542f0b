"""A script run by the same interpreter under another name, which is what a process is taken for."""
import os
import shutil
import signal
import sys
import tempfile


def run_as(name, script):
    """Runs `script --NAME`; its exit status."""
    with tempfile.TemporaryDirectory(prefix=f"spanwire-{name}-") as place:
        program = shutil.copy(os.path.realpath(sys.executable), f"{place}/{name}")
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        home = {**os.environ, "PYTHONHOME": f"{sys.base_prefix}:{sys.base_exec_prefix}"}
        return os.waitstatus_to_exitcode(os.spawnve(os.P_WAIT, program, [name, script, f"--{name}"], home) << 8)
