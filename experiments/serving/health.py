"""Milliseconds of a health check every 20 ms, from a process that does nothing else.

python health.py PORT SECONDS
"""

import http.client
import json
import sys
import time

port, end = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])
took = []
while time.monotonic() < end:
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/healthz")
    if connection.getresponse().read() == b"OK\n":
        took.append(1e3 * (time.perf_counter() - began))
    connection.close()
    time.sleep(0.02)
print(json.dumps(took))
