"""Piped logger of Apache in the CGI scenario: the background caller as a child process of the server."""

import http.client
import sys
from urllib.parse import urlsplit

import background
from background import NEXT


def call(path):
    connection = http.client.HTTPConnection(urlsplit(NEXT).netloc, timeout=20)
    try:
        connection.request("GET", path)
        connection.getresponse().read()
    finally:
        connection.close()


background.start(call)
for _ in sys.stdin:
    pass
