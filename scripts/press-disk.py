#!/usr/bin/env python3
"""Presses one daemon's disk threads on a slow disk, and says who felt it.

A file system on a loop device from which the daemon reads 8 MB/s (slow-device.sh) has a cold file, files of 20 GiB without
a block, a directory of 10,000 names and a small hot file. Beside 64 cold pulls, 80 requests for digests that stay, 80 more
whose clients leave at once, and 300 listings at a time, two others ask on: for the hot file, and for names that are looked
up for the first time in a directory that is in memory. Before that they ask alone.

Exit codes: 0 held, 1 not held, 77 this host can't do it (the reason is printed)."""
import argparse
import json
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SKIPPED = 77
COLD_MIB = 512
PULLS = 64
DIGESTS = 80
LISTINGS = 300
NAMES = 10_000
MIB_PER_S = 8
INTERVAL = 0.02
TIMEOUT = 120
# Each of the pulls has its first window by then, and what is read ahead of it.
SETTLING = 12


def main():
    arguments = parse_arguments()
    if os.geteuid() != 0:
        skip("needs root, for loop devices and cgroups")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, max(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    with tempfile.TemporaryDirectory(prefix="press-disk-", dir=arguments.directory) as place:
        slow = os.path.join(place, "slow")
        up = slow_device("up", "--mib-per-s", str(MIB_PER_S), "--size", "1GiB", slow)
        if up.returncode != 0:
            skip((up.stderr.strip() or "slow-device.sh up failed").splitlines()[-1])
        procs = next(line.split(" ", 1)[1] for line in up.stdout.splitlines() if line.startswith("procs: "))
        try:
            make_files(slow)
            results = [run(arguments, slow, procs, extra) for extra in ([], ["--uploads"])]
        finally:
            slow_device("down", slow)
    sys.exit(0 if all([judge(result, arguments) for result in results]) else 1)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streamd", required=True, help="the program")
    parser.add_argument("--seconds", type=float, default=60, help="how long it presses")
    parser.add_argument("--driver", default="auto")
    parser.add_argument("--disk-threads", default="16")
    parser.add_argument("--directory", help="where the device's file is made")
    parser.add_argument("--hot-ratio", type=float, default=2, help="most that the hot file's p99 may grow by")
    parser.add_argument("--hot-floor-ms", type=float, default=0, help="a hot p99 below this always is good")
    parser.add_argument("--new-ms", type=float, default=200, help="most that a new name's p99 may be")
    parser.add_argument("--cold-ratio", type=float, default=0.95, help="least part of dd's speed that pulls get")
    return parser.parse_args()


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIPPED)


def slow_device(*arguments):
    command = [os.path.join(HERE, "slow-device.sh"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


def make_files(slow):
    with open(f"{slow}/cold", "wb") as file:
        for _ in range(COLD_MIB):
            file.write(os.urandom(1 << 20))
        os.fsync(file.fileno())
    for number in range(4):
        with open(f"{slow}/huge{number}", "wb") as file:
            file.truncate(20 << 30)
    os.mkdir(f"{slow}/names")
    for number in range(NAMES):
        open(f"{slow}/names/IMG_2026_{number:05d}_holiday_photo.jpeg", "w").close()
    os.mkdir(f"{slow}/few")


def run(arguments, slow, procs, extra):
    """Starts a daemon, presses it, and returns the figures."""
    with open(f"{slow}/hot", "w") as file:
        file.write("hot" * 100)
    with open(f"{slow}/cold", "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    list(os.scandir(f"{slow}/names")), list(os.scandir(f"{slow}/few"))
    daemon, address = start(arguments, slow, extra)
    try:
        with open(procs, "w") as file:
            file.write(str(daemon.pid))
        alone = ask(address, min(arguments.seconds, 5), slow)
        dd = dd_speed(slow, procs)
        with open(f"{slow}/cold", "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        pressing = press(address, arguments.seconds)
        time.sleep(1)
        pressed = ask(address, arguments.seconds - 2, slow)
        cold = pressing()
    finally:
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
    return {"daemon": " ".join(extra) or "plain", "alone": alone, "pressed": pressed, "cold": cold, "dd": dd}


def start(arguments, slow, extra):
    control = free_port()
    data = free_port()
    command = [arguments.streamd, "--config", "/dev/null", "--root", slow, "--listing", "--access-log=false",
               "--driver", arguments.driver, "--disk-threads", arguments.disk_threads, "--workers", "1",
               "--data-listen", f"127.0.0.1:{data}", "--control-listen", f"127.0.0.1:{control}", *extra]
    daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", data)).close()
            return daemon, ("127.0.0.1", data)
        except OSError:
            time.sleep(0.05)
    daemon.kill()
    sys.exit("the daemon doesn't listen within 30 s")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def dd_speed(slow, procs):
    """Bytes a second that dd reads under the same throttle."""
    script = 'echo $$ >"$1" && exec dd if="$2/cold" of=/dev/null bs=1M count=24 iflag=direct'
    began = time.monotonic()
    subprocess.run(["bash", "-c", script, "_", procs, slow], check=True, capture_output=True)
    return (24 << 20) / (time.monotonic() - began)


# ---------------------------------------------------------------- who is measured


def ask(address, seconds, slow):
    """The times of requests at a fixed rate, counted from when each was due."""
    pipes = [(what, measured(target, address, seconds, slow)) for what, target in (("hot", hot), ("new", new_name))]
    return {what: summary(pipe.recv()) for what, pipe in pipes}


def measured(target, address, seconds, slow):
    here, there = multiprocessing.Pipe(False)

    def body():
        try:
            # The time that this process waits for the processor isn't the daemon's.
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        except OSError:
            pass
        times, due, end = [], time.monotonic(), time.monotonic() + seconds
        number = 0
        while due < end:
            time.sleep(max(0, due - time.monotonic()))
            target(address, number, slow)
            times.append(time.monotonic() - due)
            number += 1
            due += INTERVAL
        there.send(times)

    multiprocessing.Process(target=body, daemon=True).start()
    return here


def hot(address, number, slow):
    if number % 20 == 0:
        # The file always looks as if it were just written: with --uploads such a file is looked for in the records.
        os.utime(f"{slow}/hot")
    expect(request(address, "GET", "/hot"), b"200")


def new_name(address, number, _):
    expect(request(address, "GET", f"/few/{os.getpid()}-{number}"), b"404")


def expect(answer, status):
    if answer[9:12] != status:
        sys.exit(f"{answer[:40]!r} instead of {status!r}")


def request(address, method, path, fields=""):
    with opened(address, method, path, fields) as connection:
        return connection.recv(4096)


def opened(address, method, path, fields=""):
    connection = socket.create_connection(address, timeout=TIMEOUT)
    connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n".encode())
    return connection


def summary(times):
    times = sorted(times)
    at = lambda part: times[min(len(times) - 1, int(len(times) * part))] * 1000
    return {"count": len(times), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": times[-1] * 1000}


# ---------------------------------------------------------------- who presses


def press(address, seconds):
    """Begins, and returns what waits for the end and says how many bytes a second cold pulls got."""
    here, there = multiprocessing.Pipe(False)
    end = time.monotonic() + seconds
    pulling = multiprocessing.Process(target=pull, args=(address, end, there), daemon=True)
    others = [multiprocessing.Process(target=target, args=(address, end), daemon=True) for target in (digest, listing)]
    for process in [pulling, *others]:
        process.start()

    def finish():
        speed = here.recv()
        for process in [pulling, *others]:
            process.terminate()
            process.join()
        return speed

    return finish


def pull(address, end, pipe):
    import selectors

    selector = selectors.DefaultSelector()
    share = COLD_MIB // PULLS << 20
    for number in range(PULLS):
        field = f"Range: bytes={number * share}-{(number + 1) * share - 1}\r\n"
        selector.register(opened(address, "GET", "/cold", field), selectors.EVENT_READ)
    came, began = 0, time.monotonic()
    settling, is_steady = min(SETTLING, (end - began) / 2), False
    while time.monotonic() < end:
        if not is_steady and time.monotonic() - began > settling:
            came, began, is_steady = 0, time.monotonic(), True
        for key, _ in selector.select(0.1):
            data = key.fileobj.recv(1 << 20)
            came += len(data)
            if not data:
                selector.unregister(key.fileobj)
    pipe.send(came / (time.monotonic() - began))


def digest(address, end):
    wish = "Want-Repr-Digest: sha-256=5\r\n"
    stay = [opened(address, "HEAD", f"/huge{number % 4}", wish) for number in range(DIGESTS)]
    for number in range(DIGESTS):
        opened(address, "HEAD", f"/huge{number % 4}", wish).close()
    time.sleep(max(0, end - time.monotonic()))
    del stay


def listing(address, end):
    while time.monotonic() < end:
        asked = [opened(address, "GET", "/names/") for _ in range(LISTINGS)]
        for connection in asked:
            while connection.recv(1 << 20):
                pass
            connection.close()


# ---------------------------------------------------------------- what is held


def judge(result, arguments):
    print(json.dumps(result))
    alone, pressed = result["alone"]["hot"]["p99_ms"], result["pressed"]["hot"]["p99_ms"]
    new = result["pressed"]["new"]["p99_ms"]
    part = result["cold"] / result["dd"]
    held = [
        (f"hot p99 {pressed:.1f} ms, {pressed / alone:.2f} of {alone:.1f} ms alone",
         pressed <= max(alone * arguments.hot_ratio, arguments.hot_floor_ms)),
        (f"new name p99 {new:.1f} ms", new <= arguments.new_ms),
        (f"cold {part:.2f} of dd's {result['dd'] / 1e6:.1f} MB/s", part >= arguments.cold_ratio),
    ]
    for text, is_held in held:
        print(f"{'held' if is_held else 'NOT HELD'}: {result['daemon']}: {text}")
    return all(is_held for _, is_held in held)


if __name__ == "__main__":
    main()
