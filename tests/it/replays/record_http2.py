#!/usr/bin/env python3
"""Makes http2.rec anew, after a change of the records' layout; needs root, and the packages of tests/bpf/http2.py.

    tests/it/replays/record_http2.py

Five connections with streams of all kinds, both ends in this process (tests/it/replay.rs).
"""
import os
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bpf.http2 import varied  # noqa: E402
from lib.tracer import Tracer, need_root  # noqa: E402

OUT = Path(__file__).with_name("http2.rec")


def main():
    need_root(1)
    raw = Path(tempfile.mkdtemp(), "raw")
    tracer = Tracer("--pid", str(os.getpid()), "--record", str(raw), printer="counter")
    for number in range(5):
        varied(random.Random(number), f"rec-{number}").play()
    tracer.finish(0.5)
    OUT.write_bytes(raw.read_bytes())
    print(f"{OUT}: {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
