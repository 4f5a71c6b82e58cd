"""Numbered messages from several connections at once, by SMTP and by IMAP's APPEND, each answer noted in a ledger.

In     an island, a ledger, a seed.
Out    connections that go on until stop(); one that breaks is made again, its message is tried again under a new name.
Fails  a permanent refusal of what is in order: Load.refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Iterator

from tests.faults.ledger import Ledger, letter
from tests.island import Island

SENDERS = 4
APPENDERS = 2
ANSWER_SECONDS = 30.0


class Load:
    """`with Load(...).running():`"""

    def __init__(self, island: Island, ledger: Ledger, name: str, seed: int) -> None:
        self.refused: list[bytes] = []
        self._island, self._ledger, self._name, self._seed = island, ledger, name, seed
        self._ports, self._domain = island.ports, island.domain
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join(ANSWER_SECONDS + 5)

    async def _run(self) -> None:
        await asyncio.gather(*(self._again(number) for number in range(SENDERS + APPENDERS)))

    async def _again(self, number: int) -> None:
        chance = random.Random(f"{self._seed} {number}")
        session = self._smtp if number < SENDERS else self._append
        attempts = 0
        while not self._stop.is_set():
            attempts += 1
            try:
                await session(f"{self._name}.{number}.{attempts}", chance)
            except (OSError, asyncio.IncompleteReadError, TimeoutError):
                await asyncio.sleep(0.03)

    async def _smtp(self, name: str, chance: random.Random) -> None:
        """One connection to port 25; ends with OSError or at the stop."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._ports["smtp"])
        try:
            await _reply(reader)
            writer.write(b"EHLO outside.example\r\n")
            await _reply(reader)
            count = 0
            while not self._stop.is_set():
                count += 1
                await self._message(reader, writer, f"{name}.{count}", chance)
        finally:
            writer.close()

    async def _message(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str,
                       chance: random.Random) -> None:
        people = chance.choice((("alice",), ("bob",), ("alice", "bob")))
        writer.write(b"MAIL FROM:<sender@outside.example>\r\n"
                     + b"".join(f"RCPT TO:<{who}@{self._domain}>\r\n".encode() for who in people) + b"DATA\r\n")
        answers = [await _reply(reader) for _ in range(len(people) + 2)]
        if any(answer[:1] != b"2" for answer in answers[:-1]) or answers[-1][:1] != b"3":
            self.refused += [answer for answer in answers if answer[:1] == b"5" and answer[:3] != b"503"]
            raise OSError("temporarily refused")
        self._ledger.attempt(name, people)
        writer.write(letter(name, chance) + b".\r\n")
        answer = await _reply(reader)
        if answer[:1] == b"2":
            self._ledger.acknowledge(name, people)
        elif answer[:1] == b"5":
            self.refused.append(answer)

    async def _append(self, name: str, chance: random.Random) -> None:
        """One session over TLS that appends to alice's or bob's INBOX."""
        who = chance.choice(("alice", "bob"))
        reader, writer = await asyncio.open_connection("localhost", self._ports["imaps"], ssl=self._island.tls())
        try:
            await reader.readuntil(b"\r\n")
            await _command(reader, writer, f"LOGIN {who}@{self._domain} {self._island.password(who)}".encode())
            count = 0
            while not self._stop.is_set():
                count += 1
                message = letter(f"{name}.{count}", chance)
                self._ledger.attempt(f"{name}.{count}", (who,))
                await _command(reader, writer, b"APPEND INBOX {%d+}\r\n%b" % (len(message), message))
                self._ledger.acknowledge(f"{name}.{count}", (who,))
        finally:
            writer.close()


async def _reply(reader: asyncio.StreamReader) -> bytes:
    """A whole SMTP reply."""
    async with asyncio.timeout(ANSWER_SECONDS):
        while (line := await reader.readuntil(b"\r\n"))[3:4] == b"-":
            pass
    if line[:3] == b"421":
        raise OSError(line.decode())
    return line


async def _command(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: bytes) -> None:
    """An IMAP command that is answered OK; OSError for every other answer."""
    writer.write(b"a " + text + b"\r\n")
    async with asyncio.timeout(ANSWER_SECONDS):
        while not (line := await reader.readuntil(b"\r\n")).startswith((b"a ", b"* BYE")):
            pass
    if not line.startswith(b"a OK"):
        raise OSError(line.decode())
