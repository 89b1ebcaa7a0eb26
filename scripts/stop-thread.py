#!/usr/bin/env python3
"""Stops one thread of a process and leaves the others running, which no signal can do.

usage: stop-thread.py TID

Prints "stopped" once it stands still, and keeps it so until the thread is killed, or until this program is.
"""

import ctypes
import os
import sys

# linux/ptrace.h, linux/wait.h
PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207
WAIT_ALL = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def ptrace(request, thread):
    if libc.ptrace(request, thread, None, None) != 0:
        sys.exit(f"stop-thread.py: ptrace of {thread}: {os.strerror(ctypes.get_errno())}")


def main():
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        sys.exit(__doc__)
    thread = int(sys.argv[1])
    ptrace(PTRACE_SEIZE, thread)
    ptrace(PTRACE_INTERRUPT, thread)
    os.waitpid(thread, WAIT_ALL)
    print("stopped", flush=True)
    # A thread that is traced can't be reaped by its process before its tracer has seen it end.
    while True:
        _, status = os.waitpid(thread, WAIT_ALL)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            return


main()
