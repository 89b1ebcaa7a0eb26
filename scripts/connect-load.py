#!/usr/bin/env python3
"""Opens new connections at a constant rate, asks each for one file, and counts what went wrong.

usage: connect-load.py [--rate N] [--statuses 200,503] [--sha256 HEX] URL

Begins each request when it is due, whatever became of those before, so that a server that stands still is seen as
slow requests, not as fewer of them. Goes on until SIGTERM, lets what runs finish, and prints one line:
  requests 1200, refused 0, failed 0, slowest 31 ms
"refused" is ECONNREFUSED, "failed" every other end but a whole answer of an accepted status (and with that digest).
The first failures are described on standard error.
"""

import argparse
import asyncio
import hashlib
import signal
import sys
import time
import urllib.parse

# A request that takes longer has failed: the daemon's own drain takes up to 30 s.
REQUEST_SECONDS_MAX = 60
FAILURES_DESCRIBED_MAX = 10


class Totals:
    def __init__(self):
        self.requests = self.refused = self.failed = 0
        self.slowest_seconds = 0.0

    def fail(self, began, reason):
        self.failed += 1
        if self.failed <= FAILURES_DESCRIBED_MAX:
            moment = time.strftime("%H:%M:%S")
            print(f"{moment} after {time.monotonic() - began:.3f} s: {reason}", file=sys.stderr, flush=True)

    def line(self):
        milliseconds = round(self.slowest_seconds * 1000)
        return (
            f"requests {self.requests}, refused {self.refused}, failed {self.failed}, slowest {milliseconds} ms"
        )


class Load:
    def __init__(self, arguments):
        url = urllib.parse.urlsplit(arguments.url)
        self.host, self.port = url.hostname, url.port
        self.statuses = set(arguments.statuses.split(","))
        self.sha256 = arguments.sha256
        self.interval_seconds = 1 / arguments.rate
        self.head = (f"GET {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\n\r\n").encode()
        self.totals = Totals()
        self.stopping = asyncio.Event()

    async def run(self):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.stopping.set)
        running = set()
        due = time.monotonic()
        while not self.stopping.is_set():
            task = asyncio.create_task(self.request())
            running.add(task)
            task.add_done_callback(running.discard)
            due += self.interval_seconds
            await asyncio.sleep(max(0, due - time.monotonic()))
        if running:
            await asyncio.wait(running)

    async def request(self):
        self.totals.requests += 1
        began = time.monotonic()
        try:
            await asyncio.wait_for(self.exchange(began), REQUEST_SECONDS_MAX)
        except ConnectionRefusedError:
            self.totals.refused += 1
        except (OSError, asyncio.TimeoutError) as error:
            self.totals.fail(began, repr(error))
        self.totals.slowest_seconds = max(self.totals.slowest_seconds, time.monotonic() - began)

    async def exchange(self, began):
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(self.head)
            answer = await reader.read(-1)
        finally:
            writer.close()
        fault = self.fault_of(answer)
        if fault:
            self.totals.fail(began, fault)

    def fault_of(self, answer):
        head, end, body = answer.partition(b"\r\n\r\n")
        if not end:
            return f"an answer of {len(answer)} bytes without a whole head"
        lines = head.decode("latin-1").lower().split("\r\n")
        status = lines[0].split(" ")[1]
        if status not in self.statuses:
            return f"status {status}"
        lengths = [line.split(":")[1].strip() for line in lines if line.startswith("content-length:")]
        if lengths != [str(len(body))]:
            return f"{len(body)} bytes of {lengths}"
        if self.sha256 and hashlib.sha256(body).hexdigest() != self.sha256:
            return "other bytes than expected"
        return None


def main():
    parser = argparse.ArgumentParser(usage=__doc__, add_help=True)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--statuses", default="200")
    parser.add_argument("--sha256")
    parser.add_argument("url")
    load = Load(parser.parse_args())
    asyncio.run(load.run())
    print(load.totals.line())


main()
