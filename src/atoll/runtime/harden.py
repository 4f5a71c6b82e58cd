"""What a role gives up: new privileges, capabilities, core dumps, ptrace, most files, dialling out, rare system calls.

In     the paths that a role may read and write, whether it dials out, whether it starts threads.
Out    a state and a sentence for `atoll health`.
Spec   PROCESSES 10; landlock(7), prctl(2), capabilities(7), seccomp(2) (runtime.seccomp).
       Landlock does not restrict connecting to Unix sockets by path: directory modes and pid checks do that.
Fails  never: a kernel without Landlock is a health line, not a failure.
Not    uids: the supervisor changes those before exec.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import sysconfig
from pathlib import Path

from atoll.runtime import seccomp

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULE_PATH_BENEATH = 1
_FS_ALL_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
"""Every file access that an ABI knows; from 5 on nothing was added that matters here."""
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIRECTORY, _TRUNCATE, _IOCTL = (1 << bit for bit in (0, 1, 2, 3, 14, 15))
_FS_READ = _READ_FILE | _READ_DIRECTORY
_FS_FILE = _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
"""What a rule for a plain file may name."""
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1
_SCOPES = (1 << 0) | (1 << 1)
"""Abstract Unix sockets and signals of processes outside (ABI 6)."""
CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_NET_BIND_SERVICE = 0, 1, 5, 6, 7, 10
SUPERVISOR = frozenset({CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_NET_BIND_SERVICE})
"""What starting roles under their own users takes."""
_LAST_CAPABILITY = 63

_libc = ctypes.CDLL(None, use_errno=True)


def undumpable() -> None:
    """No ptrace from a process of the same uid, no core."""
    _libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def die_with_parent(signal_number: int) -> None:
    """Be sent a signal when the supervisor dies."""
    _libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)


def code_paths() -> list[Path]:
    """Where the interpreter, its libraries and our code are: modules that are imported late stay readable."""
    paths = {Path(sys.prefix), Path(sys.base_prefix), Path(sysconfig.get_path("stdlib")),
             Path(__file__).resolve().parents[2], Path("/usr/lib"), Path("/lib"), Path("/lib64"),
             Path("/usr/share/zoneinfo"), Path("/etc/localtime"), Path("/dev/urandom"), Path("/dev/null"),
             Path("/proc/self")}
    return sorted(path for path in paths if path.exists())


def restrict(*, read: list[Path], write: list[Path], connect_tcp: bool = False, threads: bool = True
             ) -> tuple[str, str]:
    """Restrict this process, and threads that it starts, for good: (state, sentence)."""
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # Root on whose way a directory of another person lies (sudo in a home) must still find its files: the paths are
    # bounded by Landlock.
    drop_capabilities(frozenset({CAP_DAC_OVERRIDE}) if os.geteuid() == 0 else frozenset())
    landlock, closed = _landlock(read, write, connect_tcp)
    filtered = seccomp.deny(dial=connect_tcp, threads=threads)
    older = len(os.listdir("/proc/self/task")) - 1
    if landlock and older:
        # Landlock is a thread's own: those that ran before keep the whole file system.
        return "warn", f"{closed}, but {older} threads were started before that"
    if landlock and filtered:
        return "ok", closed
    if landlock:
        return "warn", f"{closed}; no filter of system calls for this machine"
    return "warn", closed


def drop_capabilities(keep: frozenset[int]) -> None:
    """Root without its powers, except those of `keep` (capability numbers)."""
    for number in range(_LAST_CAPABILITY + 1):
        if number not in keep:
            _libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
    _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    bits = sum(1 << number for number in keep)
    low, high = bits & 0xFFFFFFFF, bits >> 32
    header = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
    _libc.capset(header, struct.pack("=6I", low, low, 0, high, high, 0))


def _landlock(read: list[Path], write: list[Path], connect_tcp: bool) -> tuple[bool, str]:
    abi = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if abi < 1:
        return False, "this kernel has no Landlock: the role can open whatever its uid can"
    handled = _FS_ALL_BY_ABI[min(abi, 5)]
    net = 0 if abi < 4 else _BIND_TCP if connect_tcp else _BIND_TCP | _CONNECT_TCP
    attributes = struct.pack("=QQQ", handled, net, _SCOPES)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    ruleset = _libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return False, f"Landlock refused: {os.strerror(ctypes.get_errno())}"
    try:
        for path in (*code_paths(), *read):
            _allow(ruleset, path, handled & _FS_READ)
        for path in write:
            _allow(ruleset, path, handled & ~_EXECUTE)
        if _libc.syscall(_RESTRICT_SELF, ruleset, 0) < 0:
            return False, f"Landlock refused: {os.strerror(ctypes.get_errno())}"
    finally:
        os.close(ruleset)
    return True, f"Landlock ABI {abi}: files{'' if connect_tcp or not net else ' and TCP'} restricted"


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not path.is_dir():
            rights &= _FS_FILE
        _libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", rights, fd), 0)
    finally:
        os.close(fd)
