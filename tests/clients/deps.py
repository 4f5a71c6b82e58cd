#!/usr/bin/env python3
"""deps(1): fetch the real clients that the tests run, and unpack them under `.cache/clients/`.

In:    names of clients (default: all of CLIENTS), `--dest DIR`; apt's own sources and keys of this Debian.
Out:   DIR/root (the unpacked packages), DIR/bin/NAME (wrappers), DIR/versions.json (what runs, and its version).
Spec:  standard library only; no root; nothing is installed, configured or started on the host. What the host has is
       used from there, so the tree holds only what is missing. Debian 12 and 13.
Fails: exits 1 and names the client that did not come or does not start; 2 when this is not a Debian.
Not:   a package manager: maintainer scripts never run, and nothing is removed but this tree.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DEST = HERE.parents[1] / ".cache" / "clients"
LAYOUT = 7  # raised when the wrappers or the tree change shape: an older tree is unpacked again
# The C library and what must agree with it stay the host's: a second one in one process does not work.
HOST_ONLY = re.compile(
    r"^(libc6|libc-bin|libc6-.*|libcrypt1|perl-base|dpkg|apt|libgcc-s1|gcc-\d+-base|base-files|debconf)$"
)


@dataclass(frozen=True)
class Client:
    """One client: its Debian packages, the command in the tree, how to see that it starts, how it is run."""

    packages: tuple[str, ...]
    command: str
    check: tuple[str, ...]
    kind: str = "binary"  # binary | perl | python
    output: str = r"(\d+\.[\w.]+)"


CLIENTS = {
    "swaks": Client(("swaks", "libnet-ssleay-perl"), "usr/bin/swaks", ("--version",), "perl", r"version (\S+)"),
    "mbsync": Client(("isync",), "usr/bin/mbsync", ("--version",), output=r"isync (\S+)"),
    "interimap": Client(("interimap",), "usr/bin/interimap", ("--help",), "perl", r"Usage|Synopsis|interimap|OPTION"),
    "neomutt": Client(("neomutt",), "usr/bin/neomutt", ("-v",), output=r"NeoMutt (\S+)"),
    "fetchmail": Client(("fetchmail",), "usr/bin/fetchmail", ("-V",), output=r"release (\S+?)\+"),
    "getmail": Client(("getmail6",), "usr/bin/getmail", ("--version",), "python"),
    "curl": Client(("curl",), "usr/bin/curl", ("--version",)),
    "offlineimap": Client(("offlineimap3",), "usr/bin/offlineimap", ("--version",), "python"),
    "thunderbird": Client(("thunderbird",), "usr/lib/thunderbird/thunderbird", ("--version",)),
    "postfix": Client(("postfix",), "usr/sbin/postconf", ("-d", "-h", "mail_version")),
    "dovecot": Client(
        ("dovecot-core", "dovecot-imapd", "dovecot-lmtpd", "dovecot-pop3d", "dovecot-fts-xapian"),
        "usr/sbin/dovecot",
        ("--version",),
    ),
    "msmtp": Client(("msmtp",), "usr/bin/msmtp", ("--version",)),
    "knot": Client(("knot",), "usr/sbin/knotd", ("--version",)),
}


class Failed(Exception):
    """What could not be done, in words for the person who ran the command."""


def run(command: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


# ---------------------------------------------------------------- apt, with a state of our own


class Apt:
    """apt-get with its lists and cache under `home`: needs no root and leaves the host's alone."""

    def __init__(self, home: Path) -> None:
        self.lists, self.cache = home / "lists", home / "cache"
        for folder in (self.lists / "partial", self.cache / "archives" / "partial"):
            folder.mkdir(parents=True, exist_ok=True)
        self.options = [
            "-o",
            f"Dir::State::lists={self.lists}/",
            "-o",
            f"Dir::Cache={self.cache}/",
            "-o",
            "Debug::NoLocking=1",
            "-o",
            "APT::Sandbox::User=",
            "-o",
            "Acquire::Retries=2",
            "-o",
            "APT::Get::AllowUnauthenticated=false",
            "-o",
            "Acquire::http::Timeout=30",
        ]

    def __call__(self, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return run(["apt-get", *self.options, *words], cwd=cwd, env={**os.environ, "LC_ALL": "C"})

    def update(self, max_age: float) -> None:
        stamp = self.lists.parent / "updated"
        if stamp.exists() and time.time() - stamp.stat().st_mtime < max_age:
            return
        done = self("update", "-q")
        if not any(self.lists.glob("*Packages*")):
            raise Failed("apt-get update brought no package list:\n" + done.stderr[-800:])
        stamp.touch()

    def closure(self, packages: list[str]) -> dict[str, str]:
        """Package -> version of all that is missing on the host for these packages (without Recommends)."""
        done = self("install", "-s", "--no-install-recommends", "--reinstall", "-y", *packages)
        if done.returncode:
            raise Failed(f"no way to install {' '.join(packages)}:\n{(done.stdout + done.stderr)[-800:]}")
        found = re.findall(r"^Inst (\S+) (?:\[[^]]*\] )?\((\S+) ", done.stdout, re.M)
        return {name: version for name, version in found if not HOST_ONLY.match(name)}

    def download(self, wanted: dict[str, str], into: Path) -> list[Path]:
        into.mkdir(parents=True, exist_ok=True)
        have = {tuple(p.stem.split("_")[:2]): p for p in into.glob("*.deb")}
        keys = {name: (name.partition(":")[0], version.replace(":", "%3a")) for name, version in wanted.items()}
        missing = [f"{name}={wanted[name]}" for name, key in keys.items() if key not in have]
        if missing:
            done = self("download", *missing, cwd=into)
            if done.returncode:
                raise Failed("apt-get download: " + done.stderr[-800:])
            have = {tuple(p.stem.split("_")[:2]): p for p in into.glob("*.deb")}
        return [have[key] for key in keys.values()]


# ---------------------------------------------------------------- the tree and its wrappers


def unpack(debs: list[Path], root: Path) -> None:
    """Unpack each archive once. The names of what is unpacked are kept beside the tree."""
    mark = root.parent / "unpacked.json"
    done = set(json.loads(mark.read_text())) if mark.exists() and root.exists() else set()
    root.mkdir(parents=True, exist_ok=True)
    for deb in debs:
        if deb.name in done:
            continue
        got = run(["dpkg-deb", "-x", str(deb), str(root)])
        if got.returncode:
            raise Failed(f"dpkg-deb -x {deb.name}: {got.stderr[-400:]}")
        done.add(deb.name)
        mark.write_text(json.dumps(sorted(done)))


def library_paths(root: Path) -> list[str]:
    """Folders of shared libraries, and the private ones that binaries look for by absolute name."""
    triple = f"{platform.machine()}-linux-gnu"
    paths = [root / "usr/lib" / triple, root / "lib" / triple, root / "usr/lib"]
    paths += [root / "usr/lib" / triple / name for name in ("pulseaudio", "blas", "lapack")]
    paths += [root / "usr/lib" / name for name in ("postfix", "dovecot")]
    return list(dict.fromkeys(str(p) for p in paths if p.is_dir()))


def perl_paths(root: Path) -> list[str]:
    patterns = ("usr/lib/*/perl5/*", "usr/lib/*/perl/*", "usr/share/perl5", "usr/share/perl/*")
    return [str(p) for pattern in patterns for p in root.glob(pattern) if p.is_dir()]


def environment(root: Path, kind: str) -> dict[str, str]:
    """The variables that make one command of the tree find the rest of the tree."""
    triple = f"{platform.machine()}-linux-gnu"
    env = {
        "LD_LIBRARY_PATH": ":".join(library_paths(root)),
        "SASL_PATH": f"{root}/usr/lib/{triple}/sasl2:/usr/lib/{triple}/sasl2",
    }
    if kind == "python":
        env["PYTHONPATH"] = f"{root}/usr/lib/python3/dist-packages"
        env["PYTHONDONTWRITEBYTECODE"] = "1"
        if (root / "usr/bin/python3").exists():
            env["PYTHONHOME"] = f"{root}/usr"
    if (root / "usr/share/terminfo").is_dir() or (root / "lib/terminfo").is_dir():
        env["TERMINFO_DIRS"] = f"{root}/lib/terminfo:{root}/usr/share/terminfo:/lib/terminfo:/usr/share/terminfo"
    env["XDG_DATA_DIRS"] = f"{root}/usr/share:/usr/local/share:/usr/share"
    return env


def interpreter(root: Path, kind: str, script: Path) -> list[str]:
    if kind == "perl":
        # the script's own switches; -I, because PERL5LIB is ignored under -T
        with script.open(errors="replace") as text:
            switches = re.findall(r" (-\w+)", text.readline())
        return ["/usr/bin/perl", *switches, *(f"-I{path}" for path in perl_paths(root))]
    if kind == "python":
        # Debian's own interpreter: the packages' compiled modules are made for it, not for any other python3 in PATH
        for candidate in (root / "usr/bin/python3", Path("/usr/bin/python3")):
            if candidate.exists():
                return [str(candidate)]
        return ["python3"]
    return []


def wrap(name: str, client: Client, root: Path, bin_: Path) -> Path:
    """Write bin/NAME: the command with its environment; `exec`, so that signals and exit codes are the client's own."""
    bin_.mkdir(parents=True, exist_ok=True)
    env = environment(root, client.kind)
    lines = ["#!/bin/sh"]
    for key, value in env.items():
        more = f"${{{key}:+:${key}}}" if key == "LD_LIBRARY_PATH" else ""
        lines.append(f"export {key}={shlex.quote(value)}{more}")
    lines.append(
        "exec "
        + shlex.join([*interpreter(root, client.kind, root / client.command), str(root / client.command)])
        + ' "$@"'
    )
    path = bin_ / name
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o755)
    return path


def start(name: str, client: Client, path: Path, scratch: Path) -> str:
    """Run the client's harmless command; returns its version."""
    env = {**os.environ, "HOME": str(scratch), "LC_ALL": "C.UTF-8", "TERM": "dumb"}
    try:
        got = run([str(path), *client.check], env=env, timeout=60, cwd=scratch, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{name} does not start: {error}") from error
    text = got.stdout + got.stderr
    found = re.search(client.output, text)
    broken = ("error while loading shared libraries", "Can't locate", "ModuleNotFoundError")
    if not found or any(words in text for words in broken):
        raise Failed(f"{name} does not start ({shlex.join([str(path), *client.check])}):\n{text[-800:]}")
    return found.group(1) if found.groups() else ""


# ---------------------------------------------------------------- the command


def versions_of(debs: list[Path]) -> dict[str, str]:
    return {p.stem.split("_")[0]: p.stem.split("_")[1].replace("%3a", ":") for p in debs}


def cached(dest: Path, names: list[str]) -> bool:
    """True when an earlier run left every asked client starting on this very system."""
    path = dest / "versions.json"
    if not path.exists():
        return False
    state = json.loads(path.read_text())
    same = state.get("layout") == LAYOUT and state.get("system") == system() and state.get("root") == str(dest / "root")
    return same and all(n in state["clients"] and (dest / "bin" / n).exists() for n in names)


def system() -> str:
    text = Path("/etc/os-release").read_text()
    return "-".join(re.findall(r'^(?:ID|VERSION_ID)="?([^"\n]+)', text, re.M)) + "-" + platform.machine()


@contextlib.contextmanager
def locked(dest: Path) -> Iterator[None]:
    dest.mkdir(parents=True, exist_ok=True)
    with (dest / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def fetch(dest: Path, names: list[str]) -> dict[str, str]:
    """Bring the named clients into `dest`; returns client -> version. Raises Failed."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        print("test-deps: this needs Debian's apt-get and dpkg-deb", file=sys.stderr)
        raise SystemExit(2)
    state_file = dest / "versions.json"
    state = json.loads(state_file.read_text()) if state_file.exists() else {}
    if state.get("layout") != LAYOUT or state.get("system") != system():
        state = {}
        shutil.rmtree(dest / "root", ignore_errors=True)
    apt = Apt(DEST / "apt")
    apt.update(max_age=24 * 3600)
    wanted = apt.closure(sorted({p for n in names for p in CLIENTS[n].packages}))
    debs = apt.download(wanted, DEST / "debs")
    unpack(debs, dest / "root")
    scratch = dest / "scratch"
    scratch.mkdir(exist_ok=True)
    clients: dict[str, str] = state.get("clients", {})
    packages = versions_of(debs)
    for name in names:
        client = CLIENTS[name]
        found = start(name, client, wrap(name, client, dest / "root", dest / "bin"), scratch)
        clients[name] = packages.get(client.packages[0], found)
    shutil.rmtree(scratch, ignore_errors=True)
    state_file.write_text(
        json.dumps(
            {
                "layout": LAYOUT,
                "system": system(),
                "root": str(dest / "root"),
                "clients": clients,
                "packages": {**state.get("packages", {}), **packages},
            },
            indent=1,
        )
        + "\n"
    )
    return clients


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="CLIENT", help=f"of: {' '.join(CLIENTS)} (default: all)")
    parser.add_argument("--dest", type=Path, default=DEST)
    args = parser.parse_args()
    unknown = [n for n in args.names if n not in CLIENTS]
    if unknown:
        parser.error(f"no client named {unknown[0]}")
    names, dest, began = args.names or list(CLIENTS), args.dest.resolve(), time.monotonic()
    with locked(dest):
        if cached(dest, names):
            clients = json.loads((dest / "versions.json").read_text())["clients"]
        else:
            try:
                clients = fetch(dest, names)
            except Failed as error:
                print(f"test-deps: {error}", file=sys.stderr)
                return 1
    for name in names:
        print(f"{name:12} {clients[name]}")
    print(f"{len(names)} clients under {dest} ({time.monotonic() - began:.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
