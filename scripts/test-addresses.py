#!/usr/bin/env python3
"""Holds lib/addresses.jq to Python's ipaddress over thousands of strings, each near to what an address looks like.

usage: test-addresses.py [JQ...]    jq by default. Prints what they disagree on; exit code 1 when they do.
"""
import ipaddress
import json
import os
import random
import subprocess
import sys

STRINGS = 4000
LIBRARY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib")
PROGRAM = 'include "addresses"; map([is_address, is_peer_address])'
KNOWN = [
    "", "0", "1", "127.1", "0x7f.1", "0x7f.0.0.1", "0177.0.0.1", "127.0.0.01", "00.0.0.0", "1.2.3.4.5", "1.2.3", "1.2.3.",
    "256.1.1.1", "999.1.1.1", "1:2:3", "127.0.0.1:8082", "1.1.1.1-", "a..b", "no-such-host", "localhost", "127.0.0.1\n",
    "\n127.0.0.1", "127.0.0.1 ", " 127.0.0.1", "127.0.0.1\0", "127.0.0.1; } evil", "\u0661.1.1.1", "\uff11.1.1.1",
    "+1.1.1.1", "-1.1.1.1", "1e0.1.1.1", "::", "::1", "1::", ":::", "::1::", ":1", "1:", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::",
    "::2:3:4:5:6:7:8", "1::2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8:9", "12345::", "g::", "::ffff:1.2.3.4", "::1.2.3.4", "1.2.3.4::",
    "::1.2.3.4:1", "::1.2.3", "::1.2.3.04", "1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:7:1.2.3.4", "[::1]", "fe80::1%eth0", "::1\n",
    "0.0.0.0", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "ff02::1", "feff::", "fe80::1", "::ffff:0:0", "::ffff:224.0.0.1", "::ffff:1",
    "FFFF:ABCD::eF01", "1.2.3.4\r", "1.2.3.4\t", "\u2170::", "1" * 60, ":" * 46, "0000000001.1.1.1", "::00001",
]


def near_misses(chance):
    pieces = list("0123456789abcdefABCDEFg.::: \n%-x") + ["::", "255", "256", "0", "1.2.3.4", "ffff", "10000"]
    while True:
        if chance.random() < 0.5:
            text = str(ipaddress.IPv4Address(chance.getrandbits(32)))
        else:
            address = ipaddress.IPv6Address(chance.getrandbits(128) & chance.getrandbits(128) & -chance.getrandbits(64))
            text = chance.choice([address.compressed, address.exploded, address.compressed.upper()])
            if chance.random() < 0.2:
                text = text.rsplit(":", 1)[0] + ":" + str(ipaddress.IPv4Address(chance.getrandbits(32)))
        for _ in range(chance.choice([0, 0, 1, 1, 2, 3])):
            place = chance.randrange(len(text) + 1)
            text = text[:place] + chance.choice(["", chance.choice(pieces)]) + text[place + chance.choice([0, 1, 4]):]
        yield text


def expected(text):
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return [False, False]
    if "%" in text:
        return [False, False]
    address = getattr(address, "ipv4_mapped", None) or address
    nobody = address.is_unspecified or address.is_multicast or str(address) == "255.255.255.255"
    return [True, not nobody]


def main():
    chance = random.Random(20)
    texts = KNOWN + [text for text, _ in zip(near_misses(chance), range(STRINGS))]
    faults = 0
    for jq in sys.argv[1:] or ["jq"]:
        done = subprocess.run([jq, "-c", "-L", LIBRARY, PROGRAM], input=json.dumps(texts), capture_output=True, text=True)
        answers = json.loads(done.stdout) if done.returncode == 0 else sys.exit(done.stderr)
        for text, answer in zip(texts, answers, strict=True):
            if answer != expected(text):
                faults += 1
                print(f"{jq}: {text!r} is {answer}, not {expected(text)}")
    accepted = sum(expected(text)[0] for text in texts)
    print(f"{len(texts)} strings, {accepted} of them addresses: {faults} disagreements")
    sys.exit(faults > 0 or accepted < STRINGS / 10)


main()
