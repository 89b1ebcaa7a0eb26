#!/usr/bin/env python3
"""Answers in Consul's place, as no Consul should, and looks whether nginx-upstreams.sh lives through it: its followers
must be the same processes afterwards, the list must have what it may have, and it must follow the next good answer.

usage: odd-consul.py DIRECTORY KEY_FILE [SCRIPT]    DIRECTORY is for lists and logs

Prints a line for each case, "ok" or "FAILED", and exits with 1 when one failed.
"""
import hashlib
import hmac
import http.server
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time

SERVICES = {"file-server-http": "control", "file-server-tcp": "data"}
# Each a script with two followers; two cases run in each at the same time.
SCRIPTS = 4
# Odd entries in one answer.
ENTRIES_AT_ONCE = 8
DEADLINE_S = 60
HERE = os.path.dirname(os.path.abspath(__file__))

DIRECTORY, KEY_FILE = sys.argv[1:3]
SCRIPT = sys.argv[3] if len(sys.argv) > 3 else os.path.join(HERE, "nginx-upstreams.sh")
KEY = bytes.fromhex(open(KEY_FILE, encoding="ascii").read().strip())


def entry(service, address, port, **changes):
    """A registration as consul-register.sh makes it, but for the changes; None takes a field away."""
    message = f"{service} {address} {port} streamd".encode("utf-8", "surrogatepass")
    fields = {
        "ID": f"{service}-{address}-{port}", "Service": service, "Tags": ["file", "server", "streamd"],
        "Address": address, "Port": port,
        "Meta": {"streamd-proof": hmac.new(KEY, message, hashlib.sha256).hexdigest()},
    }
    fields.update(changes)
    return {"Node": {"Address": "127.0.0.1"}, "Service": {k: v for k, v in fields.items() if v is not None}}


def answer(body, code="200 OK", index="7", extra=""):
    head = f"HTTP/1.1 {code}\r\nContent-Length: {len(body)}\r\n"
    if index is not None:
        head += f"X-Consul-Index: {index}\r\n"
    return (head + extra + "Connection: close\r\n\r\n").encode() + body


def whole_answers():
    """Name: (what is sent, given the body of a good answer; whether that body counts)."""
    def fixed(*arguments, **options):
        return lambda good: answer(*arguments, **options), False

    def good(counts=True, **options):
        return lambda body: answer(body, **options), counts

    return {
        "a list of strings": fixed(b'["x"]'), "a list of numbers": fixed(b"[1]"), "a list of null": fixed(b"[null]"),
        "a list of lists": fixed(b"[[]]"), "a service that is a string": fixed(b'[{"Service":"x"}]'),
        "a node that is a number": fixed(b'[{"Node":1,"Service":{"Address":"","Port":1}}]'),
        "a service of lists": fixed(b'[{"Service":{"ID":[],"Service":[],"Tags":"streamd","Address":{},"Port":[],"Meta":[]}}]'),
        "tags that are no strings": fixed(b'[{"Service":{"ID":1,"Service":"file-server-http","Tags":[1,null,{}],"Port":null}}]'),
        "garbage": fixed(b"\x00\xff{]"), "nothing": fixed(b""), "two documents": fixed(b"{} []"),
        "two lists": (lambda body: answer(body + body), False), "an object": fixed(b"{}"), "a string": fixed(b'"x"'),
        "null": fixed(b"null"), "nested without end": fixed(b"[" * 20000), "an empty list": fixed(b"[]"),
        "500": fixed(b"rpc error", "500 Internal Server Error"), "403": fixed(b"ACL not found", "403 Forbidden"),
        "429": fixed(b"", "429 Too Many Requests"),
        "a redirect": good(False, code="301 Moved Permanently", extra="Location: http://127.0.0.1:9/evil\r\n"),
        "no index": good(False, index=None), "an index of -1": good(False, index="-1"),
        "an index of text": good(False, index="x"), "a huge index": good(index="9" * 18), "an index of 25 digits": good(index="9" * 25),
        "an index with zeros": good(index="0000000019"), "an index of 0": good(index="0"),
        "two indexes": good(extra="X-Consul-Index: 3\r\n"), "a body that is cut": (lambda body: answer(body)[:-5], False),
        "no HTTP": (lambda body: b"hello\n", False), "a closed connection": (lambda body: b"", False),
        "5 MB": (lambda body: answer(b" " * 5_000_000 + body), True),
    }


def odd_entries():
    """Name: an entry that must be refused while the good one beside it is taken. {} stands for the service."""
    def at(address, port=80, **changes):
        return lambda service: entry(service, address, port, **changes)

    addresses = ["no-such-host", "localhost", "999.1.1.1", "1:2:3", "127.0.0.1:8082", "1.1.1.1-", "a..b", "0", "0x7f.1", "127.1",
                 "127.0.0.01", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "fe80::1%lo", "[::1]", "", "127.0.0.1\n", "\n127.0.0.1",
                 "127.0.0.1\0", "127.0.0.1; } evil", "127.0.0.1 backup", "\u0661.1.1.1", "unix:/tmp/x", "\x1b[31m1.1.1.1"]
    cases = {f"address {address!r}": at(address) for address in addresses}
    ports = [0, -1, 65536, 70000, 80.5, "80", None, True, [80], 1e300]
    cases |= {f"port {port!r}": at("192.0.2.1", port) for port in ports}
    cases |= {
        "another name": at("192.0.2.1", Service="other"), "no tags": at("192.0.2.2", Tags=None),
        "another tag": at("192.0.2.3", Tags=["streamd2", "file"]), "another ID": at("192.0.2.4", ID="stranger"),
        "the ID of another port": lambda service: entry(service, "192.0.2.5", 80, ID=f"{service}-192.0.2.5-81"),
        "no ID": at("192.0.2.6", ID=None), "no proof": at("192.0.2.7", Meta={}), "no Meta": at("192.0.2.8", Meta=None),
        "a proof that is a number": at("192.0.2.9", Meta={"streamd-proof": 1}),
        "the proof of another address": lambda service: entry(service, "192.0.2.10", 80, Meta=proof_of(service, "192.0.2.2")),
        "the proof of another service": lambda service: entry(service, "192.0.2.11", 80, Meta=proof_of("nginx", "192.0.2.11")),
        "a proof by another key": at("192.0.2.12", Meta={"streamd-proof": hmac.new(b"x", b"x", hashlib.sha256).hexdigest()}),
        "a proof with a line more": lambda service: entry(service, "192.0.2.13", 80, Meta={
            "streamd-proof": proof_of(service, "192.0.2.13")["streamd-proof"] + "\n"}),
    }
    return cases


def proof_of(service, address):
    return entry(service, address, 80)["Service"]["Meta"]


class Plane:
    """One follower's view: what it is answered next."""

    def __init__(self, service):
        self.service, self.port, self.odd, self.odd_served, self.index = service, 1000, None, 0, 10
        self.changed = threading.Condition()

    def good_body(self, *others):
        return json.dumps([*others, entry(self.service, "127.0.0.1", self.port)]).encode()

    def next_answer(self, asked_index):
        with self.changed:
            if self.odd is not None:
                self.odd_served += 1
                self.changed.notify_all()
                return self.odd
            if asked_index == self.index:
                self.changed.wait(5)
            return self.odd if self.odd is not None else answer(self.good_body(), index=str(self.index))

    def say(self, odd):
        with self.changed:
            self.index += 1
            self.odd, self.odd_served = odd, 0
            self.changed.notify_all()


class Consul(http.server.BaseHTTPRequestHandler):
    planes = {}
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        health = re.match(r"/(\d+)/v1/health/service/([a-z-]+)\?.*index=(\d+)", self.path)
        if not health:
            return self.reply(404, b"")
        self.wfile.write(self.planes[int(health[1]), SERVICES[health[2]]].next_answer(int(health[3])))
        self.close_connection = True

    def do_PUT(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.reply(200, b'{"ID":"00000000-0000-0000-0000-000000000000"}' if "/session/create" in self.path else b"true")

    do_DELETE = do_PUT

    def reply(self, code, body):
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def wait_for(condition):
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def text_of(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


class Script:
    """One nginx-upstreams.sh, whose followers meet the cases."""

    def __init__(self, number, address):
        self.directory = os.path.join(DIRECTORY, str(number))
        os.makedirs(self.directory)
        self.planes = {plane: Plane(service) for service, plane in SERVICES.items()}
        Consul.planes.update({(number, name): plane for name, plane in self.planes.items()})
        environment = dict(os.environ, CONSUL_HTTP_ADDR=f"http://{address}/{number}", REGISTRATION_KEY_FILE=KEY_FILE)
        environment.pop("CONSUL_HTTP_TOKEN", None)
        self.log = os.path.join(self.directory, "log")
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [SCRIPT, "--dir", self.directory, "--conf", os.path.join(self.directory, "none.conf")],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def has_begun(self):
        """Beside the two followers there may be a shell that lives for a moment."""
        self.followers = self.children()
        return len(self.followers) == 2 and all(self.list_is(name, 1000) for name in self.planes)

    def children(self):
        """Shells of the script's name."""
        try:
            with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as file:
                pids = file.read().split()
            return [pid for pid in pids if os.path.basename(SCRIPT) in text_of(f"/proc/{pid}/cmdline")]
        except FileNotFoundError:
            return []

    def list_is(self, name, port):
        return text_of(os.path.join(self.directory, f"{name}.conf")) == f"server 127.0.0.1:{port} max_fails=0;\n"

    def try_case(self, name, make_answer, counts, refuses):
        """Returns what is wrong, or None."""
        plane, old = self.planes[name], self.planes[name].port
        plane.port += 1
        plane.say(make_answer(plane))
        if not wait_for(lambda: plane.odd_served > 0):
            return "it was not asked"
        expected = plane.port if counts else old
        if not wait_for(lambda: self.list_is(name, expected)):
            return f"the list is {text_of(os.path.join(self.directory, name + '.conf'))!r}"
        refused = os.path.join(self.directory, f"{name}.refused")
        if refuses and not wait_for(lambda: text_of(refused).count("\n") == refuses):
            return f"{refuses} are to be refused, these are: {text_of(refused)!r}"
        if refuses and not re.fullmatch(r"([ -~]+\t[ -~]+\n)+", text_of(refused)):
            return f"the file has control characters: {text_of(refused)!r}"
        plane.port += 1
        plane.say(None)
        if not wait_for(lambda: self.list_is(name, plane.port)):
            return f"it no longer follows: {text_of(os.path.join(self.directory, name + '.conf'))!r}"
        return None


def all_cases():
    for name, (make, counts) in whole_answers().items():
        yield name, (lambda plane, make=make: make(plane.good_body())), counts, 0
    odd = list(odd_entries().items())
    for begin in range(0, len(odd), ENTRIES_AT_ONCE):
        names, makes = zip(*odd[begin:begin + ENTRIES_AT_ONCE], strict=True)
        yield (f"an entry with {'; '.join(names)}",
               (lambda plane, makes=makes: answer(plane.good_body(*(make(plane.service) for make in makes)))), True, len(makes))


def run_cases(script, name, cases, results):
    while True:
        try:
            case = cases.get_nowait()
        except queue.Empty:
            return
        fault = script.try_case(name, *case[1:])
        if fault is None and (script.process.poll() is not None or not set(script.followers) <= set(script.children())):
            fault = "a follower ended"
        results.append((case[0], fault))
        if fault is not None:
            # The effects of a case on this follower are no fault of the next.
            return


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Consul)
    server.daemon_threads = True
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    cases = queue.Queue()
    for case in all_cases():
        cases.put(case)
    count, results = cases.qsize(), []
    scripts = [Script(number, f"127.0.0.1:{server.server_port}") for number in range(SCRIPTS)]
    try:
        for script in scripts:
            if not wait_for(script.has_begun):
                sys.exit(f"a script doesn't begin: {text_of(script.log)}")
        threads = [threading.Thread(target=run_cases, args=(script, name, cases, results))
                   for script in scripts for name in script.planes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for script in scripts:
            script.process.send_signal(signal.SIGTERM)
        for script in scripts:
            script.process.wait(DEADLINE_S)
    for name, fault in sorted(results):
        print(f"ok      {name}" if fault is None else f"FAILED  {name}: {fault}")
    print(f"{len(results)} of {count} cases", file=sys.stderr)
    sys.exit(len(results) < count or any(fault is not None for _, fault in results))


socket.setdefaulttimeout(DEADLINE_S)
main()
