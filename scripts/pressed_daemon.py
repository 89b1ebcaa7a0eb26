"""A daemon that is pressed by cold-pressure.py, who asks it, and who watches its heartbeat."""

import re
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request

PROBE_INTERVAL_S = 0.005
ANSWER_TIMEOUT_S = 120


class Client:
    """A kept connection."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), ANSWER_TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get(self, path, first=None, last=None):
        """The number of bytes of the body; no less than were promised."""
        wanted = "" if first is None else f"Range: bytes={first}-{last}\r\n"
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{wanted}\r\n".encode())
        received = b""
        while b"\r\n\r\n" not in received:
            received += self.receive(65536)
        head, body = received.split(b"\r\n\r\n", 1)
        if head.split(b" ")[1] not in (b"200", b"206"):
            raise RuntimeError(head.decode("latin-1"))
        length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
        left = length - len(body)
        while left > 0:
            left -= len(self.receive(min(left, 1 << 20)))
        return length

    def receive(self, count):
        """Some bytes, at least one."""
        received = self.socket.recv(count)
        if not received:
            raise RuntimeError("the daemon closed the connection")
        return received


def free_port():
    """A port of this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Daemon:
    """One worker, reading in the slow cgroup."""

    def __init__(self, options, memory):
        self.data, self.control = free_port(), free_port()
        self.log = tempfile.TemporaryFile()
        command = [options.streamd, "--config", "/dev/null", "--root", options.dir, "--workers", "1"]
        command += ["--driver", options.driver, "--access-log=false"]
        command += ["--data-listen", f"127.0.0.1:{self.data}", "--control-listen", f"127.0.0.1:{self.control}"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        end = time.monotonic() + 30
        while True:
            try:
                self.metrics()
                break
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    self.end()
                    raise RuntimeError("the daemon doesn't start: " + self.said()) from None
                time.sleep(0.05)
        for procs in [options.procs, memory]:
            if procs:
                with open(procs, "w", encoding="ascii") as file:
                    file.write(str(self.process.pid))

    def metrics(self):
        """All of them, without labels where there are none."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.control}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    def said(self):
        """Its log."""
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def end(self):
        """Ends it, at the latest by force: a worker may wait for the disk."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def ask_hot(port, stop, results):
    """Asks at fixed times, and sends the times from those to the answers."""
    client, taken = Client(port), []
    begin, number = time.monotonic(), 0
    while not stop.is_set():
        due = begin + number * PROBE_INTERVAL_S
        time.sleep(max(0, due - time.monotonic()))
        client.get("/hot")
        taken.append(time.monotonic() - due)
        number += 1
    results.send(taken)


class Heartbeat(threading.Thread):
    """The age of the worker's heartbeat, which the watchdog is fed by."""

    def __init__(self, daemon):
        super().__init__(daemon=True)
        self.asked, self.oldest, self.stopped = daemon, 0, threading.Event()

    def run(self):
        while not self.stopped.wait(0.02):
            try:
                age = self.asked.metrics()['streamd_worker_heartbeat_age_seconds{worker="0"}']
                self.oldest = max(self.oldest, age)
            except (OSError, KeyError):
                pass
