"""What a role gives up: new privileges, core dumps, ptrace, the file system, dialling out (PROCESSES 10).

In     the paths that a role may read and write.
Out    a state and a sentence for `atoll health`.
Spec   landlock(7), prctl(2). Landlock does not restrict connecting to Unix sockets by path: directory modes do that.
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

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULE_PATH_BENEATH = 1
_FS_ALL_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_FS_READ = (1 << 0) | (1 << 2) | (1 << 3)  # execute (mapping a library is not), read file, read directory
_FS_FILE = (1 << 0) | (1 << 1) | (1 << 2) | (1 << 14) | (1 << 15)  # what a rule on a plain file may name
_NET_ALL = (1 << 0) | (1 << 1)  # bind, connect by TCP (ABI 4)

_libc = ctypes.CDLL(None, use_errno=True)


def undumpable() -> None:
    """No ptrace from a process of the same uid, no core."""
    _libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def die_with_parent(signal_number: int) -> None:
    """Be sent a signal when the supervisor dies."""
    _libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)


def code_paths() -> list[Path]:
    """Where the interpreter, its libraries and our code are."""
    paths = {Path(sys.prefix), Path(sys.base_prefix), Path(sysconfig.get_path("stdlib")),
             Path(__file__).resolve().parents[2], Path("/usr/lib"), Path("/lib"), Path("/lib64"),
             Path("/usr/share/zoneinfo"), Path("/etc/localtime"), Path("/dev/urandom"), Path("/dev/null"),
             Path("/proc/self")}
    return sorted(path for path in paths if path.exists())


def restrict(*, read: list[Path], write: list[Path], connect_tcp: bool) -> tuple[str, str]:
    """Restrict this process for good. (state, sentence)."""
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    abi = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if abi < 1:
        return "warn", "this kernel has no Landlock: the role can open whatever its uid can"
    handled = _FS_ALL_BY_ABI[min(abi, 5)]
    net = _NET_ALL if abi >= 4 else 0
    attributes = struct.pack("<QQ", handled, net) if abi >= 4 else struct.pack("<Q", handled)
    ruleset = _libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return "warn", f"Landlock refused: {os.strerror(ctypes.get_errno())}"
    try:
        for path in (*code_paths(), *read):
            _allow(ruleset, path, handled & _FS_READ)
        for path in write:
            _allow(ruleset, path, handled)
        if connect_tcp and net:
            return "warn", "dialling out is not restricted for this role"
        if _libc.syscall(_RESTRICT_SELF, ruleset, 0) < 0:
            return "warn", f"Landlock refused: {os.strerror(ctypes.get_errno())}"
    finally:
        os.close(ruleset)
    return "ok", f"Landlock ABI {abi}: files and TCP restricted"


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not path.is_dir():
            rights &= _FS_FILE
        rule = struct.pack("<Qi", rights, fd)
        _libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(fd)
