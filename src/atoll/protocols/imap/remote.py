"""protocols.imap.remote -- folders of a person whose mailbox is in another mailbox process of this island.

In     a session; the directory's exchange: a token for that process, for the person who signed in.
Out    the client's own commands, sent on as they are; the answers, passed on as they come, but for the tagged one.
Spec   PROCESSES 6 (delegates, b): the same protocol on run/mbox-mbox. Rights are decided where the folder is.
Fails  No: NONEXISTENT when the person may not, UNAVAILABLE when the process does not answer.
Not    a translation: both ends know the folder as "Other Users/address/path".
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Protocol, cast

from atoll.directory.client.model import MailboxInfo, Refused, SignedIn
from atoll.protocols.imap.errors import No
from atoll.protocols.imap.wire import response

OPEN_SECONDS = 20.0
OTHER_USERS = "Other Users"
"""The namespace of other people's folders [RFC 2342 §5]."""
_LITERAL = re.compile(rb"\{(\d{1,19})\}\r\n\Z")
_LONGEST_HEADER = 24


class Elsewhere(Exception):
    """A named mailbox is another process's."""

    def __init__(self, info: MailboxInfo) -> None:
        super().__init__(info.backend)
        self.info = info


class Directory(Protocol):
    """What a link needs of directory.client.Backend."""

    async def exchange(self, sid: str, user: bytes, mailbox: bytes) -> SignedIn:
        """A token for a mailbox of another process."""


class Client(Protocol):
    """Where the answers go."""

    def write(self, data: bytes) -> None:
        """To the client."""

    def link_lost(self, link: Link) -> None:
        """The other process closed."""


class Link(asyncio.Protocol):
    """One connection to another mailbox process, for one session. One command at a time."""

    __slots__ = ("_answer", "_client", "_fresh", "_left", "_plus", "_quiet", "_tag", "_tail", "transport")

    def __init__(self, client: Client) -> None:
        self._client = client
        self._answer: asyncio.Future[bytes] | None = None
        self._tag = b""
        self._tail = b""
        self._left = 0        # octets of a literal still to come
        self._fresh = True    # at the begin of a response
        self._quiet = True    # greeting, sign-in: not for the client
        self._plus = False    # "+" lines are for the client (IDLE)
        self.transport: asyncio.Transport

    def abort(self) -> None:
        """End it, if it was ever connected."""
        if hasattr(self, "transport"):
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(No("UNAVAILABLE", "That mailbox is not available just now"))
            self._answer.exception()  # in IDLE nobody waits for it: the session ends by link_lost
        self._client.link_lost(self)

    def data_received(self, data: bytes) -> None:
        out = self._split(self._tail + data)
        if out and not self._quiet:
            self._client.write(b"".join(out))
        if self._answer is not None and self._answer.done():
            self._answer = None

    def _split(self, buffer: bytes) -> list[bytes]:
        """What of the stream is for the client; the tagged line is for whoever asked."""
        out: list[bytes] = []
        at = 0
        while at < len(buffer):
            if self._left:
                step = min(self._left, len(buffer) - at)
                out.append(buffer[at : at + step])
                at, self._left = at + step, self._left - step
                continue
            end = buffer.find(b"\r\n", at)
            if end < 0:
                break
            line, at = buffer[at : end + 2], end + 2
            header = _LITERAL.search(line[-_LONGEST_HEADER:])
            if self._fresh and self._tag and line.startswith(self._tag + b" "):
                self._answered(line)
            elif not self._fresh or self._plus or not line.startswith(b"+"):
                out.append(line)
            self._fresh = header is None
            self._left = int(header.group(1)) if header else 0
        self._tail = buffer[at:]
        return out

    def _answered(self, line: bytes) -> None:
        self._tag = b""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(line)

    async def ask(self, tag: bytes, command: bytes, *, quiet: bool = False, plus: bool = False) -> bytes:
        """Send a whole command; the tagged line of its answer. quiet: the client hears none of the rest."""
        answer = self._begin(tag, quiet=quiet, plus=plus)
        self.transport.write(command + b"\r\n")
        return await answer

    def begin_idle(self, tag: bytes) -> None:
        """IDLE: answers are passed on until finish_idle()."""
        self._begin(tag, quiet=False, plus=True)
        self.transport.write(tag + b" IDLE\r\n")

    async def finish_idle(self, line: bytes) -> bytes:
        """DONE; the tagged line."""
        answer = self._answer
        if answer is None:
            raise No("UNAVAILABLE", "That mailbox is not available just now")
        self.transport.write(line + b"\r\n")
        return await answer

    def _begin(self, tag: bytes, *, quiet: bool, plus: bool) -> asyncio.Future[bytes]:
        if self.transport.is_closing():
            raise No("UNAVAILABLE", "That mailbox is not available just now")
        self._answer = asyncio.get_running_loop().create_future()
        self._tag, self._quiet, self._plus = tag, quiet, plus
        return self._answer


async def connect(client: Client, directory: Directory, sid: str, user: bytes, info: MailboxInfo, path: Path,
                  enabled: list[str]) -> Link:
    """A link that is signed in as `user` and has the client's extensions enabled; No."""
    try:
        signed = await directory.exchange(sid, user, info.mailbox)
    except Refused as refused:
        if refused.reason == "temporary":
            raise No("UNAVAILABLE", "That mailbox is not available just now") from None
        raise No("NONEXISTENT", "No such folder") from None
    link = Link(client)
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            await asyncio.get_running_loop().create_unix_connection(lambda: link, str(path))
            answer = await link.ask(b"l", b"l AUTHENTICATE ATOLL " + signed.token.encode("ascii"), quiet=True)
            if not answer.startswith(b"l OK"):
                raise No("NONEXISTENT", "No such folder")  # reads like a person who is not there
            if enabled:
                await link.ask(b"l", b"l ENABLE " + " ".join(enabled).encode("ascii"), quiet=True)
    except BaseException as error:  # a link that nobody got is nobody's to close
        link.abort()
        if isinstance(error, OSError | TimeoutError):
            raise No("UNAVAILABLE", "That mailbox is not available just now") from None
        raise
    return link


def homeward(command: bytes, name: str, address: str, *, utf8: bool) -> bytes:
    """A COPY or MOVE whose target is in the person's own mailbox, as the process of the selected mailbox names it."""
    found = re.match(rb"\S+ (?:UID )?\S+ \S+ ", command, re.IGNORECASE)
    assert found is not None
    return found.group() + response.mailbox(f"{OTHER_USERS}/{address}/{name}", utf8=utf8)
