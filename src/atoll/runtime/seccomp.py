"""System calls that no role makes, refused by a filter in the kernel: no new process, no program, no tracing.

In     whether the role dials out: else it makes no socket but Unix ones, so it sends no datagram either;
       whether it starts threads.
Out    True when the filter is in place.
Spec   PROCESSES 10; seccomp(2), Linux uapi filter.h; numbers from the kernel's syscall tables of x86_64 and aarch64.
Fails  never: another machine, or a kernel without seccomp, is False.
Not    a list of what is allowed: the interpreter and its libraries change theirs with each version.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import socket
import struct

SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC = 1, 1
_LOAD, _EQUAL, _AT_LEAST, _HAS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"""BPF_LD|W|ABS, then BPF_JMP|K with JEQ, JGE, JSET, then BPF_RET|K."""
_NUMBER, _ARCH, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW, _REFUSE, _UNKNOWN, _KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS, 0x80000000
_CLONE_THREAD = 0x00010000
_CLONE3 = 435
"""On every machine. Its flags are behind a pointer, where a filter cannot look: glibc takes clone(2) instead."""
_X32 = 0x40000000
"""The second table of an x86_64 kernel: the same calls under other numbers."""

_NAMES = ("execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "mount", "umount2", "pivot_root",
          "bpf", "keyctl", "add_key", "request_key", "io_uring_setup", "userfaultfd", "unshare", "setns",
          "pidfd_getfd", "kexec_load", "init_module", "finit_module", "perf_event_open", "open_by_handle_at",
          "swapon", "reboot", "chroot", "settimeofday")
_TABLES = {
    "x86_64": (0xC000003E, 317, 41, 56,
               (57, 58, 59, 322, 101, 310, 311, 165, 166, 155, 321, 250, 248, 249, 425, 323, 272, 308, 438, 246, 175,
                313, 298, 304, 167, 169, 161, 164)),
    "aarch64": (0xC00000B7, 277, 198, 220,
                (221, 281, 117, 270, 271, 40, 39, 41, 280, 219, 217, 218, 425, 282, 97, 268, 438, 104, 105, 273, 241,
                 265, 224, 142, 51, 170)),
}
"""Machine -> (AUDIT_ARCH; numbers of seccomp(2), socket(2), clone(2); of _NAMES, with fork and vfork before them)."""

_libc = ctypes.CDLL(None, use_errno=True)


def program(machine: str, *, dial: bool, threads: bool) -> bytes | None:
    """The filter, or None for a machine that has no table here."""
    if machine not in _TABLES:
        return None
    arch, _, socket_number, clone, refused = _TABLES[machine]
    steps = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, arch), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _NUMBER)]
    if machine == "x86_64":
        steps += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _REFUSE)]
    for number in refused:
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    steps += [(_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _UNKNOWN)]
    if threads:
        steps += [(_EQUAL, 0, 4, clone), (_LOAD, 0, 0, _FIRST_ARGUMENT), (_HAS, 1, 0, _CLONE_THREAD),
                  (_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW)]
    else:
        steps += [(_EQUAL, 0, 1, clone), (_RETURN, 0, 0, _REFUSE)]
    if not dial:
        steps += [(_EQUAL, 0, 3, socket_number), (_LOAD, 0, 0, _FIRST_ARGUMENT),
                  (_EQUAL, 1, 0, socket.AF_UNIX), (_RETURN, 0, 0, _REFUSE)]
    steps.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def deny(*, dial: bool, threads: bool) -> bool:
    """Filter every thread of this process and those that they start. NO_NEW_PRIVS must be set."""
    code = program(platform.machine(), dial=dial, threads=threads)
    if code is None:
        return False
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: a count, then (aligned) a pointer
    head = struct.pack("=HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    number = _TABLES[platform.machine()][1]
    return int(_libc.syscall(number, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, head)) == 0
