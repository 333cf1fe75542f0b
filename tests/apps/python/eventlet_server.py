"""eventlet's WSGI server: cooperative threads on a loop that takes a socket off its epoll before it is read."""

import os

import eventlet

eventlet.monkey_patch()

import eventlet.wsgi  # noqa: E402

from wsgi import app  # noqa: E402

listener = eventlet.listen(("127.0.0.1", int(os.environ["PORT"])), backlog=256)
eventlet.wsgi.server(listener, app, log_output=False, max_size=1024)
