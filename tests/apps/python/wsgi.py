"""WSGI app for gunicorn and eventlet. Imported once in every worker, each of which has its background thread."""

import threading

import requests

import background
from background import NEXT, SERVICE

local = threading.local()


def call(path):
    if not hasattr(local, "session"):
        local.session = requests.Session()
        local.session.trust_env = False
    answer = local.session.get(NEXT + path, timeout=20)
    answer.raise_for_status()
    return answer.content


def app(environ, start_response):
    path = environ["PATH_INFO"]
    try:
        forward = NEXT and not path.startswith("/bg/")
        body = SERVICE.encode() + b" " + (call(path) if forward else path.encode())
        status = "200 OK"
    except Exception as error:
        body, status = str(error).encode(), "502 Bad Gateway"
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


background.start(call)
