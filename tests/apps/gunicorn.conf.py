"""gunicorn's settings: the background caller runs in each worker."""
import os
import threading


def post_fork(server, worker):
    import threads

    hertz = float(os.environ.get("BG_HZ", "0"))
    if threads.NEXT and hertz:
        threading.Thread(target=threads.background, args=(hertz,), daemon=True).start()
