"""Runs a command one of whose system calls fails, as under a container's seccomp profile.

Usage: refusing.py NUMBER ERRNO COMMAND [ARGUMENT...], for example: refusing.py 425 EPERM streamd --check
"""

import ctypes
import errno
import os
import struct
import sys

# linux/prctl.h, linux/seccomp.h, linux/filter.h, linux/bpf_common.h
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_ERRNO = 0x00050000
SECCOMP_RET_ALLOW = 0x7FFF0000
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06

number = int(sys.argv[1])
error = getattr(errno, sys.argv[2])
command = sys.argv[3:]

# The system call's number is the first word of struct seccomp_data.
instructions = [
    struct.pack("=HBBI", LOAD_WORD, 0, 0, 0),
    struct.pack("=HBBI", JUMP_IF_EQUAL, 0, 1, number),
    struct.pack("=HBBI", RETURN, 0, 0, SECCOMP_RET_ERRNO | error),
    struct.pack("=HBBI", RETURN, 0, 0, SECCOMP_RET_ALLOW),
]
code = ctypes.create_string_buffer(b"".join(instructions))


class Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


program = Program(len(instructions), ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
zero = ctypes.c_ulong(0)
if libc.prctl(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero) != 0:
    sys.exit(f"PR_SET_NO_NEW_PRIVS: {os.strerror(ctypes.get_errno())}")
mode = ctypes.c_ulong(SECCOMP_MODE_FILTER)
if libc.prctl(PR_SET_SECCOMP, mode, ctypes.byref(program), zero, zero) != 0:
    sys.exit(f"PR_SET_SECCOMP: {os.strerror(ctypes.get_errno())}")
os.execv(command[0], command)
