"""HTTP/2 with prior knowledge by libcurl's multi interface; see ../README.md: curl_.py BASE COUNT LEVEL"""
import io
import sys

import pycurl


def body(number):
    return bytes([number % 256]) * (70000 if number % 50 == 7 else number * 7 % 600)


def main(base, count, level):
    multi, errors, left = pycurl.CurlMulti(), [], iter(range(count))
    multi.setopt(pycurl.M_PIPELINING, 2)
    under_way = {}

    def add(number):
        handle, got = pycurl.Curl(), io.BytesIO()
        for option, value in ((pycurl.URL, f"{base}/echo?id={number}"), (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE),
                              (pycurl.PIPEWAIT, 1), (pycurl.PROXY, ""), (pycurl.POSTFIELDS, body(number)), (pycurl.WRITEDATA, got),
                              (pycurl.HTTPHEADER, [f"x-id: {number}", "expect:"]), (pycurl.TIMEOUT, 60)):
            handle.setopt(option, value)
        under_way[handle] = number, got
        multi.add_handle(handle)

    for _, number in zip(range(level), left):
        add(number)
    while under_way:
        multi.perform()
        _, good, bad = multi.info_read()
        for handle, error in [*((handle, None) for handle in good), *((handle, text) for handle, _, text in bad)]:
            number, got = under_way.pop(handle)
            status, version = handle.getinfo(pycurl.RESPONSE_CODE), handle.getinfo(pycurl.INFO_HTTP_VERSION)
            if error or status != 200 or version != pycurl.CURL_HTTP_VERSION_2_0 or got.getvalue() != body(number):
                errors.append(f"{number}: {error}, status {status}, version {version}, {len(got.getvalue())} bytes came back, or others")
            multi.remove_handle(handle)
            if (following := next(left, None)) is not None:
                add(following)
        if not good and not bad:
            multi.select(0.2)
    if errors:
        sys.exit(f"{len(errors)} errors: {errors[:3]}")


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
