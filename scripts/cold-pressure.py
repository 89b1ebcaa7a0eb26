#!/usr/bin/env python3
"""The pressure of test-cold-pressure.sh: what makes a worker believe that a window is in memory though it isn't, from a
disk that is slow for the daemon alone. Beside it one client asks for a short hot file, at fixed times, on a connection
of its own; it waits whenever the worker does.

usage: cold-pressure.py --dir DIR --procs FILE --streamd PROGRAM [options]

  --dir DIR          where the slow device is mounted (slow-device.sh); files are made below it and removed again
  --procs FILE       cgroup.procs of the group that slows it
  --streamd PROGRAM  the daemon
  --driver NAME      auto, uring or epoll
  --seconds N        how long each case presses; 8 where it isn't given
  --files N          files of the case "many"; 10000 where it isn't given, of 128 KiB
  --cases LIST       of forged, lacking, many, evicted and memory; all where it isn't given
  --check SECONDS    fail where the heartbeat was older than that, more was waited for than may be, or an answer wasn't whole
  --json             one object a line instead of a table

  forged   first, middle and last byte of each window are fetched, then the windows
  lacking  each window lacks one page at a random place
  many     each of many files lacks one page
  evicted  pages are dropped all the time, between question and answer too
  memory   the daemon may use 128 MiB, for four times as much that is asked for at random
"""

import argparse
import json
import mmap
import multiprocessing
import os
import random
import re
import sys
import threading
import time

from pressed_daemon import Client, Daemon, Heartbeat, ask_hot

WINDOW, PAGE = 1 << 20, mmap.PAGESIZE
MEMORY_BYTES = 128 << 20
PULLERS = 8


class Files:
    """What is served, and what of it is in memory."""

    def __init__(self, directory):
        self.directory, self.made = directory, []

    def make(self, name, size):
        """A file, on the disk and not in memory."""
        path = os.path.join(self.directory, name)
        self.made.append(path)
        with open(path, "wb") as file:
            block = random.randbytes(min(size, WINDOW))
            for _ in range(size // len(block)):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        drop(path)
        return path

    def remove(self):
        """All of them."""
        for path in self.made:
            os.unlink(path)


def drop(path, offset=0, length=0):
    """Takes a file out of memory."""
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def read_but(path, size, lacking):
    """Brings all of a file into memory, page by page, but the pages of these numbers."""
    drop(path)
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    for page in range(size // PAGE):
        if page not in lacking:
            os.pread(descriptor, PAGE, page * PAGE)
    os.close(descriptor)


class Press:
    """One case: what is made before, and what presses."""

    def __init__(self, options, files):
        self.options, self.files, self.stopped, self.bytes = options, files, threading.Event(), 0
        self.failed, self.lock = [], threading.Lock()

    def prepare(self):
        """Before the daemon is there."""

    def begin(self, port):
        """The threads, running."""
        return self.pullers(port, self.pull)

    def pull(self, client, number):
        """What one puller does again and again; True when there is nothing left."""
        raise NotImplementedError

    def pullers(self, port, pull):
        """Threads that pull until they are stopped."""

        def run(number):
            try:
                client = Client(port)
                while not self.stopped.is_set() and not pull(client, number):
                    pass
            except (OSError, RuntimeError) as error:
                self.failed.append(str(error))

        threads = [threading.Thread(target=run, args=(number,)) for number in range(PULLERS)]
        for thread in threads:
            thread.start()
        return threads

    def fetch(self, client, path, *wanted):
        """Counts what a client gets."""
        received = client.get(path, *wanted)
        with self.lock:
            self.bytes += received


class Forged(Press):
    """First, middle and last byte of each window, then the windows."""

    windows = 32

    def prepare(self):
        self.path = self.files.make("forged", self.windows * WINDOW)

    def begin(self, port):
        client = Client(port)
        for window in range(self.windows):
            for place in (0, WINDOW // 2, WINDOW - 1):
                client.get("/forged", window * WINDOW + place, window * WINDOW + place)
        self.left = list(range(self.windows))
        return super().begin(port)

    def pull(self, client, number):
        try:
            window = self.left.pop()
        except IndexError:
            return True
        self.fetch(client, "/forged", window * WINDOW, (window + 1) * WINDOW - 1)
        return False


class Lacking(Forged):
    """Each window lacks one page."""

    windows = 64

    def prepare(self):
        self.path = self.files.make("lacking", self.windows * WINDOW)
        per_window = WINDOW // PAGE
        # Not the first, which every daemon asks for.
        lacking = {window * per_window + random.randrange(1, per_window) for window in range(self.windows)}
        read_but(self.path, self.windows * WINDOW, lacking)

    def begin(self, port):
        self.left = list(range(self.windows))
        return Press.begin(self, port)

    def pull(self, client, number):
        try:
            window = self.left.pop()
        except IndexError:
            return True
        self.fetch(client, "/lacking", window * WINDOW, (window + 1) * WINDOW - 1)
        return False


class Many(Press):
    """Each of many files lacks one page."""

    size = 128 << 10

    def prepare(self):
        pages = self.size // PAGE
        for number in range(self.options.files):
            path = self.files.make(f"many-{number}", self.size)
            read_but(path, self.size, {random.randrange(1, pages)})
        self.left = list(range(self.options.files))

    def pull(self, client, number):
        try:
            chosen = self.left.pop()
        except IndexError:
            return True
        self.fetch(client, f"/many-{chosen}")
        return False


class Evicted(Press):
    """Pages are dropped all the time, between question and answer too."""

    count, size = 24, 2 * WINDOW

    def prepare(self):
        self.paths = [self.files.make(f"evicted-{number}", self.size) for number in range(self.count)]

    def begin(self, port):
        descriptors = [os.open(path, os.O_RDONLY) for path in self.paths]

        def turn():
            while not self.stopped.is_set():
                chosen = random.choice(descriptors)
                os.pread(chosen, self.size, 0)
                time.sleep(random.random() / 500)
                os.posix_fadvise(chosen, random.randrange(self.size // PAGE) * PAGE, 0, os.POSIX_FADV_DONTNEED)

        threads = [threading.Thread(target=turn) for _ in range(2)]
        for thread in threads:
            thread.start()
        return threads + super().begin(port)

    def pull(self, client, number):
        self.fetch(client, f"/evicted-{random.randrange(self.count)}")
        return False


class Memory(Press):
    """More is asked for than the daemon may have in memory."""

    count, size = 64, 8 * WINDOW

    def prepare(self):
        for number in range(self.count):
            self.files.make(f"memory-{number}", self.size)

    def pull(self, client, number):
        # A few far more often than others, so that there is something in memory.
        chosen = min(int(random.expovariate(0.3)), self.count - 1)
        self.fetch(client, f"/memory-{chosen}")
        return False


CASES = {"forged": Forged, "lacking": Lacking, "many": Many, "evicted": Evicted, "memory": Memory}


class MemoryGroup:
    """A cgroup of little memory; `procs` is None where there is none to be had."""

    def __init__(self):
        self.procs, self.group = None, None
        for root, limit in [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")]:
            group = f"{root}/stream-pressure-{os.getpid()}"
            try:
                if not os.path.isdir(root) or limit == "memory.max" and not os.path.exists(f"{root}/cgroup.controllers"):
                    continue
                os.mkdir(group)
                self.group = group
                with open(f"{group}/{limit}", "w", encoding="ascii") as file:
                    file.write(str(MEMORY_BYTES))
                self.procs = f"{group}/cgroup.procs"
                return
            except OSError:
                self.remove()

    def remove(self):
        """Its process has ended by then; the kernel takes a moment to see that."""
        for _ in range(100):
            if not self.group:
                return
            try:
                os.rmdir(self.group)
                self.group = None
            except OSError:
                time.sleep(0.05)


def share(sorted_values, of):
    """The value that this share of all doesn't exceed."""
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * of))] if sorted_values else 0


def run_case(name, options):
    """Presses, and returns what was seen."""
    files = Files(options.dir)
    memory = MemoryGroup() if name == "memory" else None
    daemon = None
    try:
        if memory and not memory.procs:
            return {"case": name, "skipped": "no cgroup with a limit of memory can be made"}
        files.made.append(os.path.join(options.dir, "hot"))
        with open(files.made[-1], "wb") as file:
            file.write(b"hot\n")
        # Until its entity tag needs no look at what is recorded of it.
        time.sleep(2.1)
        press = CASES[name](options, files)
        press.prepare()
        daemon = Daemon(options, memory and memory.procs)
        return measure(name, options, press, daemon)
    finally:
        if daemon:
            daemon.end()
            if options.verbose:
                print(daemon.said(), file=sys.stderr)
        files.remove()
        if memory:
            memory.remove()


def measure(name, options, press, daemon):
    """What was seen from the first pull to the last."""
    stop = multiprocessing.Event()
    results, sender = multiprocessing.Pipe(duplex=False)
    asking = multiprocessing.Process(target=ask_hot, args=(daemon.data, stop, sender))
    heartbeat = Heartbeat(daemon)
    asking.start()
    heartbeat.start()
    begin = time.monotonic()
    threads = press.begin(daemon.data)
    end = begin + options.seconds
    while time.monotonic() < end and any(thread.is_alive() for thread in threads):
        time.sleep(0.02)
    press.stopped.set()
    for thread in threads:
        thread.join()
    took = time.monotonic() - begin
    stop.set()
    taken = sorted(results.recv())
    asking.join()
    heartbeat.stopped.set()
    heartbeat.join()
    metrics = daemon.metrics()
    return {
        "case": name,
        "seconds": round(took, 1),
        "asked": len(taken),
        "p50_ms": round(share(taken, 0.5) * 1000, 2),
        "p99_ms": round(share(taken, 0.99) * 1000, 1),
        "p999_ms": round(share(taken, 0.999) * 1000, 1),
        "max_ms": round(taken[-1] * 1000, 1),
        "heartbeat_s": round(heartbeat.oldest, 2),
        "pulled_mib": round(press.bytes / WINDOW, 1),
        "waits": metrics.get("streamd_worker_disk_waits_total"),
        "longest_ms": round(metrics.get("streamd_worker_disk_wait_longest_seconds", 0) * 1000, 1),
        "disbelieved": metrics.get("streamd_windows_disbelieved_total"),
        "cold": metrics.get("streamd_windows_cold_total"),
        "failed": press.failed,
    }


# Waits in one term of doubts, 10 s: one for a file, and of one disk five before nothing of it is believed. Where the disk
# is doubted from the second on, files that lack a page aren't waited for again.
WAITS_MAX = {"forged": 1, "lacking": 1, "many": 3, "evicted": 5, "memory": 5}


def faults(seen, heartbeat_max):
    """What is not as it should be."""
    terms = 1 + int(seen["seconds"] / 10)
    if seen["failed"]:
        yield f"{seen['case']}: {seen['failed'][0]}"
    if (seen["waits"] or 0) > WAITS_MAX[seen["case"]] * terms:
        yield f"{seen['case']}: a worker waited {seen['waits']:.0f} times for the disk"
    if seen["heartbeat_s"] > heartbeat_max:
        yield f"{seen['case']}: a worker's heartbeat was {seen['heartbeat_s']} s old"


COLUMNS = ["case", "seconds", "asked", "p50_ms", "p99_ms", "p999_ms", "max_ms", "heartbeat_s", "pulled_mib", "waits", "longest_ms",
           "disbelieved", "cold"]


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1].split("\n")[0], description=__doc__.split("\n\n")[0])
    parser.add_argument("--dir", required=True)
    parser.add_argument("--procs", required=True)
    parser.add_argument("--streamd", required=True)
    parser.add_argument("--driver", default="auto")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--check", type=float)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    if not options.json:
        print("".join(f"{column:>12}" for column in COLUMNS), flush=True)
    found = []
    for name in options.cases.split(","):
        seen = run_case(name, options)
        if options.check and "skipped" not in seen:
            found += faults(seen, options.check)
        if options.json:
            print(json.dumps(seen), flush=True)
        elif "skipped" in seen:
            print(f"{name:>12}  skipped: {seen['skipped']}", flush=True)
        else:
            print("".join(f"{seen[column] if seen[column] is not None else '-':>12}" for column in COLUMNS), *seen["failed"][:3], flush=True)
    for fault in found:
        print(f"FAILED  {fault}", flush=True)
    return 1 if found else 0


sys.exit(main())
