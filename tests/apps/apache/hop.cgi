#!/bin/sh
# One hop as CGI: a shell that calls curl, so the call is made by a grandchild of the worker.
# REQUEST_URI and not PATH_INFO: the path as it was asked for.
below=$REQUEST_URI
case $REQUEST_URI in
/bg/*) ;;
*)
    if [ -n "$NEXT" ] && ! below=$(curl -sS -f -m 20 "$NEXT$REQUEST_URI" 2>&1); then
        printf 'Status: 502 Bad Gateway\r\nContent-Type: text/plain\r\n\r\n%s' "$below"
        exit
    fi
    ;;
esac
body="$SERVICE $below"
printf 'Content-Type: text/plain\r\nContent-Length: %s\r\n\r\n%s' "${#body}" "$body"
