"""A demo island's own files: its configuration, its certificate, its accounts (ARCHITECTURE, Interfaces people meet).

In     an empty data directory, or one of an earlier demo.
Out    DATA/atoll.toml (if absent), DATA/tls, DATA/demo.json (0600): where everything is, for people and scripts.
Fails  OSError; DemoError when the certificate cannot be made.
Not    the accounts' mailboxes: the directory role makes them while it has none.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

from atoll.base.config import DemoAccount
from atoll.runtime.paths import DataPaths
from atoll.runtime.sockets import make_directory

DOMAIN = "example.test"
ACCOUNTS = (("alice", "db1", "user"), ("bob", "db2", "user"), ("admin", "db1", "administrator"))
NAMES = ("localhost", "127.0.0.1", "::1", "mail.example.test", "example.test", "imap.example.test",
         "pop.example.test", "smtp.example.test")
PORT_OFFSET = 10000
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""Without letters that look like another: people type these."""
_TOML = """\
# An Atoll island: every setting that is not here has its default; `atoll config check` reads this file.

[island]
name = "demo"
host = "localhost"

[listen]
address = "{address}"
port_offset = {offset}

# All clients of a demo have one address. Where others may connect, take this out: the defaults hold floods back.
[admission]
trusted = ["127.0.0.0/8", "::1/128"]

[processes]
mailboxes = 2

[[databases]]
name = "db1"
process = 1

[[databases]]
name = "db2"
process = 2
"""


class DemoError(Exception):
    """The demo cannot be set up; str() is for the operator."""


def write_config(path: Path, offset: int, address: str = "127.0.0.1") -> None:
    """The demo's configuration, unless there is one."""
    if not path.exists():
        _write(path, _TOML.format(offset=offset, address=address), 0o644)


def _write(path: Path, text: str, mode: int) -> None:
    """Whole or not at all, a power cut included: an empty file would keep the island from starting."""
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def accounts(path: Path) -> tuple[DemoAccount, ...]:
    """The accounts of an earlier demo.json, or new ones with new passwords."""
    known: dict[str, str] = {}
    if path.exists():
        known = {one["address"]: one["password"] for one in json.loads(path.read_text("utf-8"))["accounts"]}
    return tuple(DemoAccount(address=f"{stem}@{DOMAIN}", database=database, role=role,
                             password=known.get(f"{stem}@{DOMAIN}") or _password())
                 for stem, database, role in ACCOUNTS)


def _password() -> str:
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(4)) for _ in range(4))


def certificate(folder: Path, host: str) -> None:
    """The island's own authority and certificate, unless there is one."""
    if (folder / "cert.pem").exists():
        return
    make_directory(folder, 0o700)
    names = dict.fromkeys((host, *NAMES))
    done = subprocess.run([sys.executable, "-P", "-m", "atoll.runtime.certificates", str(folder), *names],  # noqa: S603
                          capture_output=True, check=False)
    if done.returncode:
        raise DemoError(f"no certificate could be made: {done.stderr.decode(errors='replace').strip()[-300:]}")


def write_card(data: Path, people: tuple[DemoAccount, ...], ports: dict[str, int]) -> dict[str, Any]:
    """DATA/demo.json: what a script needs to begin; and the same as a value."""
    card: dict[str, Any] = {
        "domain": DOMAIN, "host": "localhost",
        "accounts": [{"address": one.address, "password": one.password, "role": one.role, "database": one.database}
                     for one in people],
        "ports": ports, "ca": str(DataPaths(data).tls / "ca.pem"), "admin": str(data / "run" / "admin.sock"),
    }
    text, path = json.dumps(card, indent=2) + "\n", DataPaths(data).demo
    if not path.exists() or path.read_text("utf-8") != text:  # an island starts on a full disk, too
        _write(path, text, 0o600)
    return card


def ready_text(card: dict[str, Any], data: Path, shared_uid: bool) -> str:
    """What the terminal says when every port answers."""
    ports = "  ".join(f"{name} {port}" for name, port in card["ports"].items())
    lines = [f"Atoll is ready: {card['domain']} on {card['host']}", f"  ports     {ports}"]
    for one in card["accounts"]:
        administrator = "   (administrator)" if one["role"] == "administrator" else ""
        lines.append(f"  {one['address']:<22} password {one['password']}{administrator}")
    lines += [f"  authority {card['ca']}   (TLS: clients trust this file)", f"  details   {data / 'demo.json'}"]
    if shared_uid:
        lines.append("  The roles share one uid: a broken frontend can reach the stores. To separate them, start as "
                     "root with the users of [run_as].")
    return "\n".join(lines)
