#!/usr/bin/env python3
"""Kubernetes metadata, from a real kube-apiserver: what spans say of their pods, which pods are traced, and what a lost server costs.

    tests/kube/run.py [--binary PATH] [CASE]...

Containers are processes in cgroups named as kubelets do. Needs root, and `tests/setup test kube`.
"""
import argparse
import http.client
import importlib
import shutil
import signal
import subprocess
import sys
import time

import rig
from lib import tracer
from rig import CASES, World

for part in ("plain", "names", "matching", "selection", "changes", "outages", "costs"):
    importlib.import_module(part)
ERRORS = (OSError, LookupError, RuntimeError, ValueError, rig.ApiError, http.client.HTTPException, subprocess.SubprocessError)
TOOLS = ("unshare", "hostname", "openssl", "strace")


class Stopped(BaseException):
    pass


def stop(status):
    raise Stopped(status)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", help="of spanwire")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(CASES):
        parser.error(f"no case {', '.join(sorted(unknown))}")
    if arguments.binary:
        tracer.BINARY = arguments.binary
    chosen = {name: function for name, function in CASES.items() if not arguments.cases or name in arguments.cases}
    tracer.need_root(len(chosen))
    if missing := [tool for tool in TOOLS if not shutil.which(tool)]:
        print(f"skipped {len(chosen)} tests: {missing[0]} is not there")
        return 3
    signal.signal(signal.SIGTERM, lambda *_: stop(143))
    signal.signal(signal.SIGINT, lambda *_: stop(130))
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    world = World()
    try:
        print(f"       API server {world.plane.version}, ready after {world.started_in:.1f} s", flush=True)
        part = None
        for name, function in chosen.items():
            if part not in (None, function.__module__):
                world.end_shared()
            part = function.__module__
            begun = time.monotonic()
            said = []
            try:
                with world.case():
                    problems = function(world, said.append)
            except rig.Skip as why:
                print(f"skip   {name}: {why}", flush=True)
                counts["skipped"] += 1
                continue
            except (*ERRORS, SystemExit) as error:
                problems = [repr(error)]
            counts["failed" if problems else "passed"] += 1
            print(f"{'FAILED' if problems else 'ok':<7}{name} ({time.monotonic() - begun:.1f} s){''.join(f'; {one}' for one in said)}", flush=True)
            for problem in problems[:8]:
                print(f"       {problem[:400]}")
            if len(problems) > 8:
                print(f"       and {len(problems) - 8} more")
            for log in world.logs if problems else ():
                print("\n".join(f"       | {line}" for line in log.splitlines()[-12:]))
    except Stopped as stopped:
        return stopped.args[0]
    finally:
        world.close()
    for path in world.left:  # whatever runs in it was not ended
        print(f"FAILED the end: {path} is left")
        counts["failed"] += 1
    print(", ".join(f"{count} {word}" for word, count in counts.items()))
    return int(bool(counts["failed"]))


if __name__ == "__main__":
    sys.exit(main())
