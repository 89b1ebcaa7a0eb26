#!/usr/bin/env python3
"""The clients of test-restart.sh: through NGINX's HTTP port, through its TCP port, and directly to the
replicas that Consul's health API names. They compare every byte of every answer.

usage: restart-load.py --root DIR --spool DIR --consul URL --http-port PORT --tcp-port PORT [--clients N]

Reads commands on standard input and answers each with one line:
  total   requests so far
  report  JSON of what happened since the last report
  end     the clients finish what they do; JSON of what is left to report, with the check of stored frames

What a client does when a connection ends under it is what curl and browsers do (RFC 9110, 9.2.2): a request
on a kept connection that was closed before the first byte of the answer is sent once more on a new
connection, unless it is a POST. So is a frame: to store one twice harms nobody here. These are counted as
retried. All else that is not the whole right answer has failed; a refused connection too, where the client
knows no other address.
"""

import argparse
import http.client
import json
import os
import random
import re
import select
import socket
import sys
import threading
import time
import urllib.parse

CONNECT_TIMEOUT_S = 5
# Far above any answer here: whoever runs into it hangs.
ANSWER_TIMEOUT_S = 20
HEAD_BYTES_MAX = 16 << 10
DISCOVERY_INTERVAL_S = 0.25
# The most faults of each client between two reports: more would say the same.
FAULTS_SHOWN_MAX = 2
VERIFY_INTERVAL_S = 1
FILES = {"small": 1 << 10, "middle": 37_011, "large": 1 << 20, "huge": 6 << 20}
FILE_WEIGHTS = {"small": 70, "middle": 24, "large": 5, "huge": 1}
# Frames are told from the streams of POST /stream in the spool by their size.
FRAME_BYTES_MIN, FRAME_BYTES_MAX = 20_000, 60_000
FRAME_ID_BYTES = 8
STREAM_SIZES, STREAM_WEIGHTS = [169, 4096, 1 << 20], [66, 33, 1]
PATTERN = random.Random(7).randbytes(2 * FRAME_BYTES_MAX)


class NoAnswer(Exception):
    """The connection ended before the first byte of the answer."""


class Broken(Exception):
    """The answer is not whole, or not one that was asked for."""


class Corrupted(Exception):
    """The answer came whole, with other bytes."""


class Connection:
    """One TCP connection."""

    def __init__(self, address):
        self.address = address
        self.exchanges = 0
        self.socket = socket.create_connection(address, CONNECT_TIMEOUT_S)
        self.socket.settimeout(ANSWER_TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self):
        self.socket.close()

    def has_ended(self):
        """Whether the peer closed it while nothing was asked."""
        return bool(select.select([self.socket], [], [], 0)[0])

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            # Bytes that the peer sent before it closed may still be there.
            pass
        except TimeoutError as error:
            raise Broken(f"took nothing for {ANSWER_TIMEOUT_S} s") from error

    def receive_some(self, count, is_first):
        try:
            data = self.socket.recv(count)
        except TimeoutError as error:
            raise Broken(f"silent for {ANSWER_TIMEOUT_S} s") from error
        except OSError as error:
            raise (NoAnswer if is_first else Broken)(str(error)) from error
        if not data:
            raise (NoAnswer if is_first else Broken)("closed")
        return data

    def receive_exactly(self, start, count):
        """`count` bytes, of which `start` has come already."""
        body = bytearray(count)
        body[: len(start)] = start
        filled, view = len(start), memoryview(body)
        while filled < count:
            try:
                received = self.socket.recv_into(view[filled:])
            except OSError as error:
                raise Broken(f"{filled} of {count} bytes, then {error or 'silence'}") from error
            if received == 0:
                raise Broken(f"{filled} of {count} bytes, then closed")
            filled += received
        return body

    def http(self, method, target, headers=""):
        """Returns status, body, and whether the connection goes on."""
        self.send(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
        data = self.receive_some(64 << 10, is_first=True)
        while (end := data.find(b"\r\n\r\n")) < 0:
            if len(data) > HEAD_BYTES_MAX:
                raise Broken("the head does not end")
            data += self.receive_some(64 << 10, is_first=False)
        head, rest = data[:end].decode("latin-1").lower(), data[end + 4 :]
        length = re.search(r"\r\ncontent-length: (\d+)", head)
        if not length or len(rest) > int(length[1]):
            raise Broken(f"no length, or more than that: {head[:200]!r}")
        body = self.receive_exactly(rest, int(length[1]))
        return int(head.split()[1]), body, "\r\nconnection: close" not in head

    def frame(self, payload):
        self.send(len(payload).to_bytes(8, "little") + payload)
        answer = self.receive_some(4, is_first=True)
        while len(answer) < 4:
            answer += self.receive_some(4 - len(answer), is_first=False)
        if answer != b"done":
            raise Corrupted(f"answered {answer!r} instead of done")


class Replicas:
    """What Consul calls healthy, as a client learns it: asked again and again, and the last list stays while
    Consul does not answer."""

    def __init__(self, consul_url):
        self.authority = urllib.parse.urlsplit(consul_url).netloc
        self.lists = {"file-server-tcp": [], "file-server-http": []}

    def follow(self):
        while True:
            for service in self.lists:
                try:
                    self.lists[service] = self.ask(service) or self.lists[service]
                except (OSError, ValueError, http.client.HTTPException):
                    pass
            time.sleep(DISCOVERY_INTERVAL_S)

    def ask(self, service):
        connection = http.client.HTTPConnection(self.authority, timeout=2)
        try:
            connection.request("GET", f"/v1/health/service/{service}?passing")
            answer = connection.getresponse()
            if answer.status != 200:
                raise ValueError(answer.status)
            return [(found["Service"]["Address"], found["Service"]["Port"]) for found in json.load(answer)]
        finally:
            connection.close()

    def shuffled(self, service):
        addresses = list(self.lists[service])
        random.shuffle(addresses)
        return addresses


class Work:
    """The operations, each on a connection; True when that goes on."""

    def __init__(self, root):
        self.contents = {}
        for name, size in FILES.items():
            self.contents[name] = os.urandom(size)
            with open(os.path.join(root, name), "wb") as file:
                file.write(self.contents[name])
        self.frame_number = 0
        self.acknowledged = {}
        self.lock = threading.Lock()

    def health(self, connection):
        status, body, goes_on = connection.http("GET", "/health")
        if status != 200:
            raise Broken(f"status {status}: {bytes(body[:80])!r}")
        if body != b"OK":
            raise Corrupted(f"{bytes(body[:80])!r} instead of OK")
        return goes_on

    def stream(self, connection):
        (size,) = random.choices(STREAM_SIZES, STREAM_WEIGHTS)
        status, body, goes_on = connection.http("POST", f"/stream?size={size}", "Content-Length: 0\r\n")
        if status != 200:
            raise Broken(f"status {status}: {bytes(body[:200])!r}")
        answer = json.loads(body)
        if answer["state"] != "done" or answer["bytes_sent"] != size:
            raise Corrupted(f"asked for {size} bytes, got {bytes(body[:200])!r}")
        return goes_on

    def file(self, connection):
        (name,) = random.choices(list(FILE_WEIGHTS), list(FILE_WEIGHTS.values()))
        content, expected_status, headers = memoryview(self.contents[name]), 200, ""
        if random.random() < 0.2:
            first = random.randrange(len(content))
            last = random.randrange(first, len(content))
            content, expected_status, headers = content[first : last + 1], 206, f"Range: bytes={first}-{last}\r\n"
        status, body, goes_on = connection.http("GET", f"/{name}", headers)
        if status != expected_status:
            raise Broken(f"status {status} instead of {expected_status}")
        if body != content:
            raise Corrupted(f"{name} {headers.strip()}: {len(body)} bytes, others than asked for")
        return goes_on

    def frame(self, connection):
        with self.lock:
            self.frame_number += 1
            number = self.frame_number
        connection.frame(frame_payload(number))
        with self.lock:
            self.acknowledged[number] = True
        return True


def frame_payload(number):
    """A frame that tells its number, and of which every byte follows from it."""
    size = FRAME_BYTES_MIN + number * 7919 % (FRAME_BYTES_MAX - FRAME_BYTES_MIN)
    start = number * 104_729 % (len(PATTERN) - size)
    return number.to_bytes(FRAME_ID_BYTES, "little") + PATTERN[start : start + size - FRAME_ID_BYTES]


class Spool:
    """The stored frames: compared with what was sent, and removed, while the load runs."""

    def __init__(self, directory):
        self.directory = directory
        self.stored = set()
        self.corrupted = 0
        self.lock = threading.Lock()

    def verify(self):
        with self.lock:
            for entry in [found for each in os.scandir(self.directory) for found in os.scandir(each)]:
                if named := re.fullmatch(r"(\d+)_[0-9a-f]{32}", entry.name):
                    self.verify_one(entry.path, int(named[1]))

    def verify_one(self, path, size):
        if FRAME_BYTES_MIN <= size <= FRAME_BYTES_MAX:
            with open(path, "rb") as file:
                content = file.read()
            number = int.from_bytes(content[:FRAME_ID_BYTES], "little")
            if content == frame_payload(number):
                self.stored.add(number)
            else:
                self.corrupted += 1
        os.unlink(path)

    def follow(self):
        while True:
            self.verify()
            time.sleep(VERIFY_INTERVAL_S)


class Tally:
    """What happened to the requests of one kind."""

    COUNTS = ("requests", "failed", "retried", "refused", "corrupted")

    def __init__(self):
        self.counts = dict.fromkeys(self.COUNTS, 0)
        self.slowest_ms = 0.0
        self.faults = []

    def add(self, other):
        for name in self.COUNTS:
            self.counts[name] += other.counts[name]
        self.slowest_ms = max(self.slowest_ms, other.slowest_ms)
        self.faults += other.faults


class Client(threading.Thread):
    """Asks again and again."""

    def __init__(self, kind, operation, addresses, is_kept=True, is_retried=True, follows=False, pause_s=0.0):
        super().__init__(daemon=True)
        self.kind, self.operation, self.addresses = kind, operation, addresses
        self.is_kept, self.is_retried, self.follows, self.pause_s = is_kept, is_retried, follows, pause_s
        self.connection = None
        self.ends = threading.Event()
        self.tally, self.lock = Tally(), threading.Lock()

    def run(self):
        while not self.ends.is_set():
            started = time.monotonic()
            fault, counts = self.ask()
            with self.lock:
                self.tally.counts["requests"] += 1
                for name in counts:
                    self.tally.counts[name] += 1
                self.tally.slowest_ms = max(self.tally.slowest_ms, (time.monotonic() - started) * 1000)
                if fault and len(self.tally.faults) < FAULTS_SHOWN_MAX:
                    self.tally.faults.append(f"{time.strftime('%H:%M:%S')} {self.kind}: {fault}")
            if self.pause_s:
                time.sleep(random.random() * self.pause_s)
        self.drop()

    def ask(self):
        """One request. Returns what went wrong, and what to count."""
        counts = []
        for _ in range(2):
            try:
                connection = self.connect(counts)
            except OSError as error:
                return f"no connection: {error}", [*counts, "failed"]
            try:
                goes_on = self.operation(connection)
            except NoAnswer as error:
                was_kept, peer = connection.exchanges > 0, connection.address
                self.drop()
                if was_kept and self.is_retried and "retried" not in counts:
                    counts.append("retried")
                    continue
                kept = "a kept" if was_kept else "a new"
                return f"no answer on {kept} connection to {peer}: {error}", [*counts, "failed"]
            except Corrupted as error:
                self.drop()
                return f"corrupted: {error}", [*counts, "failed", "corrupted"]
            except (Broken, LookupError, ValueError) as error:
                peer = connection.address
                self.drop()
                return f"broken answer of {peer}: {error}", [*counts, "failed"]
            connection.exchanges += 1
            if not (goes_on and self.is_kept):
                self.drop()
            return None, counts
        return "not reached", [*counts, "failed"]

    def connect(self, counts):
        """The kept connection, unless it has ended or its replica is no longer called healthy; else a new one, to
        the first address that accepts."""
        if self.connection and (
            self.connection.has_ended() or self.follows and self.connection.address not in self.addresses()
        ):
            self.drop()
        if self.connection:
            return self.connection
        last_error = OSError("Consul has named no replica")
        for address in self.addresses():
            try:
                self.connection = Connection(address)
                return self.connection
            except ConnectionRefusedError as error:
                counts.append("refused")
                last_error = error
        raise last_error

    def drop(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def take_tally(self):
        with self.lock:
            taken, self.tally = self.tally, Tally()
        return taken


def make_clients(work, replicas, http_port, tcp_port, count):
    http_address, tcp_address = [("127.0.0.1", http_port)], [("127.0.0.1", tcp_port)]
    nginx_http, nginx_tcp = lambda: http_address, lambda: tcp_address
    data = lambda: replicas.shuffled("file-server-tcp")
    control = lambda: replicas.shuffled("file-server-http")
    clients = []
    for number in range(count):
        # Every second client of a kind leaves its connection idle for a while between two requests.
        pause_s = 0.02 if number % 2 else 0.0
        clients += [
            Client("nginx-http GET /health, kept", work.health, nginx_http, pause_s=pause_s),
            Client("nginx-http GET /health", work.health, nginx_http, is_kept=False),
            Client("nginx-http POST /stream", work.stream, nginx_http, is_kept=False, is_retried=False),
            Client("nginx-tcp GET file, kept", work.file, nginx_tcp, pause_s=pause_s),
            Client("nginx-tcp GET file", work.file, nginx_tcp, is_kept=False),
            Client("nginx-tcp frame, kept", work.frame, nginx_tcp, pause_s=pause_s),
            Client("direct GET file, kept", work.file, data, pause_s=pause_s),
            Client("direct GET file", work.file, data, is_kept=False),
            Client("direct frame, kept", work.frame, data, pause_s=pause_s),
            # A POST is not sent twice, so its client leaves a replica which Consul no longer names.
            Client("direct POST /stream, kept", work.stream, control, is_retried=False, follows=True, pause_s=pause_s),
        ]
    return clients


def report(clients):
    total, kinds = Tally(), {}
    slowest_kind = ""
    for client in clients:
        taken = client.take_tally()
        if taken.slowest_ms > total.slowest_ms:
            slowest_kind = client.kind
        total.add(taken)
        kinds.setdefault(client.kind, Tally()).add(taken)
    described = {
        kind: {**tally.counts, "slowest_ms": round(tally.slowest_ms, 1)} for kind, tally in kinds.items()
    }
    return {
        **total.counts,
        "slowest_ms": round(total.slowest_ms, 1),
        "slowest_kind": slowest_kind,
        "faults": total.faults,
        "kinds": described,
    }


def end(clients, work, spool):
    for client in clients:
        client.ends.set()
    for client in clients:
        client.join(2 * ANSWER_TIMEOUT_S)
    spool.verify()
    result = report(clients)
    result["hanging"] = sum(client.is_alive() for client in clients)
    result["frames_acknowledged"] = len(work.acknowledged)
    result["frames_missing"] = len(set(work.acknowledged) - spool.stored)
    result["frames_corrupted"] = spool.corrupted
    return result


def parse_arguments():
    parser = argparse.ArgumentParser(description="The clients of test-restart.sh.")
    parser.add_argument("--root", required=True, help="directory that the replicas serve")
    parser.add_argument("--spool", required=True, help="directory whose directories they store frames in")
    parser.add_argument("--consul", required=True, help="URL of the agent")
    parser.add_argument("--http-port", type=int, required=True, help="NGINX, HTTP")
    parser.add_argument("--tcp-port", type=int, required=True, help="NGINX, TCP")
    parser.add_argument("--clients", type=int, default=2, help="of each kind")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    # The default of 5 ms is a long time for a thread that waits for its turn to read an answer.
    sys.setswitchinterval(0.0005)
    work, spool, replicas = Work(arguments.root), Spool(arguments.spool), Replicas(arguments.consul)
    clients = make_clients(work, replicas, arguments.http_port, arguments.tcp_port, arguments.clients)
    threading.Thread(target=replicas.follow, daemon=True).start()
    while not all(replicas.lists.values()):
        time.sleep(0.05)
    verifier = threading.Thread(target=spool.follow, daemon=True)
    verifier.start()
    for client in clients:
        client.start()
    requests = 0
    for line in sys.stdin:
        command = line.strip()
        if command == "total":
            pending = sum(client.tally.counts["requests"] for client in clients)
            print(requests + pending, flush=True)
        elif command in ("report", "end"):
            result = report(clients) if command == "report" else end(clients, work, spool)
            requests += result["requests"]
            print(json.dumps(result), flush=True)
            if command == "end":
                return
        else:
            sys.exit(f"restart-load.py: unknown command {command!r}")


if __name__ == "__main__":
    main()
