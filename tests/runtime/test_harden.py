"""What a restricted role can no longer do, tried in a process of its own [PROCESSES 10]."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from atoll.runtime import seccomp

TRY = """
    import ctypes, json, os, resource, signal, socket, sys, threading
    from pathlib import Path
    from atoll.runtime import harden
    folder, outside = Path(sys.argv[1]), Path(sys.argv[2])
    server = socket.create_server(("127.0.0.1", 0))
    harden.undumpable()
    before = sys.argv[3] == "thread"
    if before:
        hold = threading.Event()
        threading.Thread(target=hold.wait, daemon=True).start()
    state, detail = harden.restrict(read=[], write=[folder], connect_tcp=sys.argv[3] == "dial",
                                    threads=sys.argv[3] != "alone")
    said = {"state": state, "detail": detail}
    def attempt(name, call):
        try:
            call()
            said[name] = "allowed"
        except (OSError, RuntimeError) as error:
            said[name] = "refused"
    attempt("read passwd", lambda: open("/etc/passwd").read())
    attempt("read outside", lambda: (outside / "secret").read_text())
    attempt("write outside", lambda: (outside / "new").write_text("x"))
    attempt("write own", lambda: (folder / "new").write_text("x"))
    attempt("rename own", lambda: (folder / "new").rename(folder / "newer"))
    attempt("list outside", lambda: os.listdir(outside))
    attempt("exec", lambda: os.execv("/bin/true", ["true"]))
    attempt("exec own", lambda: (os.chmod(folder / "newer", 0o700), os.execv(folder / "newer", ["x"])))
    attempt("tcp", lambda: socket.create_connection(server.getsockname()).close())
    attempt("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close())
    attempt("unix", lambda: socket.socket(socket.AF_UNIX).close())
    attempt("import late", lambda: __import__("encodings.cp1252"))
    attempt("idna", lambda: "bücher.example".encode("idna"))
    attempt("signal others", lambda: os.kill(os.getppid(), 0))
    attempt("fork", lambda: os.fork() or os._exit(0))
    attempt("thread", lambda: threading.Thread(target=int).start())
    libc = ctypes.CDLL(None, use_errno=True)
    def call(number, *args):
        if libc.syscall(number, *args) < 0:
            raise OSError(ctypes.get_errno(), "")
    attempt("ptrace", lambda: call({"x86_64": 101, "aarch64": 117}[os.uname().machine], 0, 0, 0, 0))
    status = Path("/proc/self/status").read_text()
    said["caps"] = {line.split(":")[0]: line.split()[1] for line in status.splitlines()
                    if line.startswith(("CapPrm", "CapEff"))}
    print(json.dumps(said), flush=True)
    os._exit(0)
"""


def attempt(tmp_path: Path, how: str) -> dict[str, object]:
    """The answers of a process that restricted itself."""
    own, outside = tmp_path / "own", tmp_path / "outside"
    own.mkdir()
    outside.mkdir()
    (outside / "secret").write_text("x")
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(TRY), str(own), str(outside), how],
                          capture_output=True, timeout=30, check=True)
    said: dict[str, object] = json.loads(done.stdout)
    if "no Landlock" in str(said["detail"]):
        pytest.skip("this kernel has no Landlock")
    return said


def test_a_role_keeps_its_folder_its_code_and_unix_sockets(tmp_path: Path) -> None:
    said = attempt(tmp_path, "")
    allowed = {name for name, verdict in said.items() if verdict == "allowed"}
    assert allowed == {"write own", "rename own", "unix", "import late", "idna", "thread"}
    assert said["state"] == "ok"
    # root keeps the one that lets it through other people's directories; others have none, whatever their bound is
    kept = "0000000000000002" if os.geteuid() == 0 else "0000000000000000"
    assert said["caps"] == {"CapPrm": kept, "CapEff": kept}


def test_one_that_dials_out_may_only_that_more(tmp_path: Path) -> None:
    said = attempt(tmp_path, "dial")
    assert (said["tcp"], said["udp"]) == ("allowed", "allowed")
    assert (said["read passwd"], said["write outside"], said["exec"]) == ("refused",) * 3


def test_one_without_threads_starts_none(tmp_path: Path) -> None:
    said = attempt(tmp_path, "alone")
    assert (said["fork"], said["thread"]) == ("refused", "refused")
    assert said["write own"] == "allowed"


def test_threads_that_ran_before_are_told(tmp_path: Path) -> None:
    said = attempt(tmp_path, "thread")
    assert said["state"] == "warn"
    assert "1 threads" in str(said["detail"])


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_is_whole_instructions_and_ends_with_allow(machine: str) -> None:
    code = seccomp.program(machine, dial=False, threads=True)
    assert code is not None
    assert len(code) % 8 == 0
    assert len(code) // 8 < 256  # jumps are one byte
    assert code[-4:] == (0x7FFF0000).to_bytes(4, sys.byteorder)


def test_an_unknown_machine_is_a_health_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "pdp11")
    assert seccomp.deny(dial=False, threads=True) is False
