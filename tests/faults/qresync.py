"""A client that keeps a copy of INBOX by QRESYNC alone, as a phone does: it believes what SELECT tells it.

In     an island, an account.
Out    sync(): the copy after one connection; truth(): what a client without a memory sees.
Spec   [RFC 7162 §3.2.5]: UIDVALIDITY, HIGHESTMODSEQ and the copy go into SELECT, VANISHED and FETCH come back.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.island import Island

Message = tuple[str, frozenset[str]]
"""Subject and flags."""
_FETCH = re.compile(rb"\* \d+ FETCH \(")
SECONDS = 30.0


class Session:
    """One IMAP session over TLS that gives whole responses, literals included."""

    def __init__(self, island: Island, who: str) -> None:
        raw = socket.create_connection(("localhost", island.ports["imaps"]), SECONDS)
        self._sock: ssl.SSLSocket = island.tls().wrap_socket(raw, server_hostname="localhost")
        self._file = self._sock.makefile("rb")
        self._tag = 0
        self.response()
        self.ask(f"LOGIN {who}@{island.domain} {island.password(who)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._file.close()
        self._sock.close()

    def response(self) -> bytes:
        """One response with its literals; OSError at the end of the connection."""
        whole = b""
        while True:
            line = self._file.readline()
            if not line.endswith(b"\r\n"):
                raise OSError("the connection ended")
            whole += line
            literal = re.search(rb"\{(\d+)\}\r\n$", line)
            if literal is None:
                return whole[:-2]
            whole += self._file.read(int(literal[1]))

    def until_the_end(self) -> None:
        """Read until the connection ends: OSError."""
        while True:
            self.response()

    def send(self, command: str) -> bytes:
        """Write a command; its tag."""
        self._tag += 1
        self._sock.sendall(f"t{self._tag} {command}\r\n".encode())
        return f"t{self._tag} ".encode()

    def ask(self, command: str) -> list[bytes]:
        """The untagged responses of a command that is answered OK."""
        tag = self.send(command)
        said = []
        while not (line := self.response()).startswith(tag):
            said.append(line)
        if not line.startswith(tag + b"OK"):
            raise OSError(f"{command}: {line.decode()}")
        return said


def connected(island: Island, who: str, seconds: float = SECONDS) -> Session:
    """A session, as soon as there can be one."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return Session(island, who)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@dataclass
class Copy:
    """What one client knows. `told` is what SELECT said at the last sync, for whoever asks what it cost."""

    who: str
    names: dict[tuple[int, int], str]
    """(UIDVALIDITY, UID) -> subject, shared by all clients of a mailbox: it never changes."""
    send_uids: bool = True
    uid_validity: int = 0
    modseq: int = 0
    messages: dict[int, Message] = field(default_factory=dict)
    told: list[bytes] = field(default_factory=list)
    resyncs: int = 0

    def sync(self, island: Island) -> None:
        """One connection; afterwards the copy is the mailbox."""
        with connected(island, self.who) as session:
            session.ask("ENABLE QRESYNC")
            known = f" {_ranges(self.messages)}" if self.send_uids and self.messages else ""
            memory = f" (QRESYNC ({self.uid_validity} {self.modseq}{known}))" if self.uid_validity else ""
            self.told = session.ask("SELECT INBOX" + memory)
            validity = int(_code(self.told, b"UIDVALIDITY"))
            if validity != self.uid_validity:
                self.resyncs += self.uid_validity > 0
                self.uid_validity, self.messages = validity, {}
            self._take(self.told)
            highest = max(self.messages, default=0)
            self._take(session.ask(f"UID FETCH {highest + 1}:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])"))
            unknown = [uid for uid, (subject, _) in self.messages.items() if not subject]
            if unknown:
                self._take(session.ask(f"UID FETCH {_ranges(unknown)} (UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])"))
            self.modseq = int(_code(self.told, b"HIGHESTMODSEQ"))

    def _take(self, responses: list[bytes]) -> None:
        for line in responses:
            if line.startswith(b"* VANISHED"):
                for low, high in _read_ranges(line.rpartition(b" ")[2].decode()):
                    for uid in [uid for uid in self.messages if low <= uid <= high]:
                        del self.messages[uid]
            elif _FETCH.match(line):
                uid, subject, flags = _fetched(line)
                subject = subject or self.messages.get(uid, ("", frozenset()))[0]
                self.messages[uid] = subject, flags
                if subject:
                    first = self.names.setdefault((self.uid_validity, uid), subject)
                    assert first == subject, f"uid {uid} of {self.uid_validity} was {first}, is {subject}"


def truth(island: Island, who: str) -> dict[int, Message]:
    """Everything, asked for by a client that remembers nothing."""
    with connected(island, who) as session:
        session.ask("SELECT INBOX")
        lines = session.ask("UID FETCH 1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        return {uid: (subject, flags) for uid, subject, flags in map(_fetched, filter(_FETCH.match, lines))}


def _fetched(line: bytes) -> tuple[int, str, frozenset[str]]:
    uid, flags = re.search(rb"UID (\d+)", line), re.search(rb"FLAGS \(([^)]*)\)", line)
    assert uid, line
    assert flags, line
    subject = re.search(rb"(?i)\r\nSubject: ([^\r]*)\r\n", line)
    return int(uid[1]), subject[1].decode() if subject else "", \
        frozenset(flags[1].decode().split()) - {"\\Recent"}


def _code(lines: list[bytes], name: bytes) -> bytes:
    return next(found[1] for line in lines if (found := re.search(rb"\[%b (\d+)\]" % name, line)))


def _ranges(uids: dict[int, Message] | list[int]) -> str:
    """1:3,7"""
    runs: list[list[int]] = []
    for uid in sorted(uids):
        if runs and uid == runs[-1][1] + 1:
            runs[-1][1] = uid
        else:
            runs.append([uid, uid])
    return ",".join(f"{low}:{high}" for low, high in runs)


def _read_ranges(text: str) -> Iterator[tuple[int, int]]:
    for part in text.split(","):
        low, _, high = part.partition(":")
        yield int(low), int(high or low)
