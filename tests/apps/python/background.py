"""The background caller of the Python services, a thread or a task: it calls NEXT at a steady rate by itself."""

import asyncio
import os
import threading
import time

NEXT = os.environ.get("NEXT", "")
SERVICE = os.environ["SERVICE"]
HZ = float(os.environ.get("BG_HZ", "0"))
SECONDS = float(os.environ.get("BG_SECONDS", "600"))


def paths():
    """Yields (time to send at, path), bounded by BG_SECONDS."""
    start = time.monotonic()
    for n in range(int(HZ * SECONDS)):
        yield start + n / HZ, f"/bg/{SERVICE}/{os.getpid()}-{n}"


def start(call):
    """Starts the thread, which gives `call` one path at a time."""

    def run():
        for at, path in paths():
            time.sleep(max(0.0, at - time.monotonic()))
            try:
                call(path)
            except Exception as error:  # the next hop may be starting or stopping
                print(f"background: {error}", flush=True)
                time.sleep(0.2)

    if NEXT and HZ > 0:
        threading.Thread(target=run, daemon=True, name="background").start()


async def task(call):
    """The same on an event loop, for whoever makes it a task; `call` is a coroutine function."""
    for at, path in paths() if NEXT else ():
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        try:
            await call(path)
        except Exception as error:
            print(f"background: {error}", flush=True)
            await asyncio.sleep(0.2)
