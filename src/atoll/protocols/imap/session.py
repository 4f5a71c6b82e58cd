"""protocols.imap.session -- one signed-in client at the mailbox process: commands in order, news in between.

In     bytes of a connection; commands/ (a table); the mailbox layer's notices.
Out    answers. While nothing runs there is no task: an idle session, in IDLE or not, is this one object.
Spec   [RFC 9051 §3 (states), §5.5 (commands one after another), §7.1.5 (BYE)]; PROCESSES 4, 6, 8.
Fails  whatever a command raises is an answer: No, Bad, Bye, StoreError; anything else is NO [SERVERBUG] and a log line.
Not    the commands (commands/), the form of the wire (wire/), who may do what (mailbox).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, cast

from atoll.base.clock import Clock
from atoll.base.ids import MailboxId, UserId
from atoll.directory.client.model import MailboxInfo
from atoll.directory.client.tokens import BadToken, Claims, TokenVerifier
from atoll.mailbox import Access, Notice, StoreError
from atoll.protocols.imap.command import Command, Ok, State
from atoll.protocols.imap.errors import Bad, Bye, No, to_no
from atoll.protocols.imap.limits import Limits
from atoll.protocols.imap.selected import Selected
from atoll.protocols.imap.wire.cursor import Cursor
from atoll.protocols.imap.wire.reader import Broken, Continue, Event, Line, Reader, TooBig
from atoll.protocols.imap.wire.reader import Command as Text
from atoll.protocols.imap.wire.response import status
from atoll.runtime.peers import Peer, peer_of

LINGER_SECONDS = 1.0

_log = logging.getLogger("atoll.imap")


@dataclass(slots=True)
class Enabled:
    """What this client has switched on [RFC 5161]."""

    rev2: bool = False
    condstore: bool = False
    qresync: bool = False


class Mailboxes(Protocol):
    """What IMAP needs of mailbox.Store."""

    async def open(self, mailbox: MailboxId, who: UserId, *, scope: str = "full") -> Access:
        """A person's access to a mailbox."""


class People(Protocol):
    """What IMAP needs of directory.client.Backend: whose mailbox is that?"""

    async def mailbox_of(self, address: str) -> MailboxInfo | None:
        """By its address."""

    async def mailbox(self, mailbox: bytes) -> MailboxInfo:
        """By its id."""


class Host(Protocol):
    """What a session asks of the server that it belongs to."""

    store: Mailboxes
    people: People
    verifier: TokenVerifier
    clock: Clock
    limits: Limits
    commands: Mapping[str, Command]
    backend: str

    def enter(self, session: Session, peer: Peer) -> bool:
        """A new connection. Is it from a frontend or a mailbox process? Others need an administrator's token."""

    def leave(self, session: Session) -> None:
        """A connection ended."""


class Session(asyncio.Protocol):
    """One connection from a frontend, or from another mailbox process."""

    __slots__ = ("_bad", "_deaf", "_dirty", "_drained", "_known_peer", "_reader", "_task", "access", "claims",
                 "enabled", "idle_tag", "last_active", "others", "selected", "server", "transport")

    def __init__(self, server: Host) -> None:
        self.server = server
        self._reader = Reader(server.limits.line, server.limits.literal_limit, server.limits.drain)
        self._task: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._bad = 0
        self._deaf = False
        self._dirty = False
        self._known_peer = False
        self.access: Access | None = None
        self.claims: Claims | None = None
        self.enabled = Enabled()
        self.idle_tag = b""
        self.last_active = 0.0
        self.others: dict[str, Access] = {}
        self.selected: Selected | None = None
        self.transport: asyncio.Transport

    # connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's TLS transport is none by class
        self._known_peer = self.server.enter(self, peer_of(transport))
        self.touch()
        self.write(b"* OK [CAPABILITY IMAP4rev1 AUTH=ATOLL SASL-IR] Atoll mailbox ready\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self.deselect()
        self.server.leave(self)
        if self._task is not None:
            self._task.cancel()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def eof_received(self) -> bool:
        return False

    @property
    def busy(self) -> bool:
        """Is a command running?"""
        return self._task is not None

    def touch(self) -> None:
        self.last_active = self.server.clock.monotonic()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._reader.feed(data)
        if self._task is None:
            self.touch()
            self._work()
        elif len(self._reader) > self.server.limits.read_ahead:
            self.transport.pause_reading()

    def pause_writing(self) -> None:
        self._drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    async def drain(self) -> None:
        """Wait until the client has read enough of what was written."""
        while self._drained is not None:
            await self._drained
        if self.transport.is_closing():
            raise asyncio.CancelledError  # nobody reads the rest

    async def breathe(self) -> None:
        """Between two slices of work: others' turn, and the client's."""
        await asyncio.sleep(0)
        await self.drain()

    def bye(self, code: str, text: str) -> None:
        """End the session with a word, if that can be read; the caller has no answer half written."""
        if self._task is None and not self.transport.is_closing():
            self.write(status(b"*", "BYE", text, code))
        self.transport.close()

    def _hang_up(self, last: bytes) -> None:
        """End in mid-sentence: closing while the other side still sends would lose our last words."""
        self.write(last)
        self._deaf = True
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self.transport.close)

    # the queue of commands

    def _work(self) -> None:
        """Take events until a command needs time."""
        while self._task is None and not self._deaf and not self.transport.is_closing():
            event = self._reader.next()
            if event is None:
                return
            self._on(event)

    def _on(self, event: Event) -> None:
        match event:
            case Text():
                self._begin(event)
            case Line(data):
                self._idle_over(data)
            case Continue():
                self.write(b"+ Ready\r\n")
            case TooBig():
                self.write(status(event.tag, "NO", "Too big", "TOOBIG"))
            case Broken():
                self._hang_up(status(event.tag, "BAD", event.text) + status(b"*", "BYE", "Cannot follow"))

    def _begin(self, command: Text) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(command))

    async def _run(self, command: Text) -> None:
        """This command and those already here behind it, then the task is over."""
        try:
            await self._answer(command)
            while not self.idle_tag and not self._deaf and not self.transport.is_closing():
                event = self._reader.next()
                if event is None:
                    break
                if isinstance(event, Text):
                    await self._answer(event)
                else:
                    self._on(event)
            if not self.transport.is_closing():
                self.transport.resume_reading()
        except asyncio.CancelledError:
            self.transport.abort()
        finally:
            self._task = None
            self.touch()
        if self._dirty:
            self.push()
        self._work()  # what arrived between the last look and now

    async def _answer(self, command: Text) -> None:
        tag, done = command.tag, Ok()
        try:
            if command.bad:
                raise Bad(command.bad)
            done = await self._execute(command)
            if self.idle_tag:
                return
            word, text, code = "OK", done.text, done.code
            self._bad = 0
        except Bad as bad:
            word, text, code = "BAD", bad.text, bad.code
            self._bad += 1
        except No as no:
            word, text, code = "NO", no.text, no.code
        except StoreError as error:
            refusal = to_no(error)
            word, text, code = "NO", refusal.text, refusal.code
        except Bye as bye:
            word, text = ("NO", bye.text) if bye.code else ("OK", "Done")
            self.write(status(b"*", "BYE", bye.text, bye.code) + status(tag, word, text, bye.code))
            self.transport.close()
            return
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception:
            _log.exception("command failed")
            word, text, code = "NO", "Internal error", "SERVERBUG"
        self.write(status(tag, word, text, code))
        if self._bad >= self.server.limits.bad_commands:
            self._end("LIMIT", "Too many bad commands")
        elif code == "UNAVAILABLE" and self.access is not None and not self._still_open():
            self._end("UNAVAILABLE", "Mailbox is not available, please connect again")

    def _end(self, code: str, text: str) -> None:
        self.write(status(b"*", "BYE", text, code))
        self.transport.close()

    def _still_open(self) -> bool:
        """Is the database of this session's mailbox still the one that was opened?"""
        try:
            self.mine.quota()
        except StoreError as error:
            return not error.temporary
        return True

    async def _execute(self, command: Text) -> Ok:
        cur = Cursor(command.data, utf8_names=self.enabled.rev2, depth=self.server.limits.depth)
        cur.tag()
        cur.space()
        name = cur.word()
        if name == "UID":
            cur.space()
            name = "UID " + cur.word()
        entry = self.server.commands.get(name)
        if entry is None:
            raise Bad("Unknown command")
        self._check_state(entry.state)
        args = entry.parse(cur)
        done = await entry.run(self, args, command.tag)
        if self.selected is not None and not self.idle_tag:
            return self._with_news(done, expunges=entry.expunges)
        return done

    def _check_state(self, state: State) -> None:
        if self.access is None and state is not State.ANY and state is not State.NOT_AUTHENTICATED:
            raise Bad("Sign in first")
        if self.access is not None and state is State.NOT_AUTHENTICATED:
            raise Bad("Signed in already")
        if state is State.SELECTED and self.selected is None:
            raise Bad("No mailbox selected")

    # news

    def _with_news(self, done: Ok, *, expunges: bool) -> Ok:
        self.tell(expunges=expunges)
        selected = self.selected
        if not expunges and not done.code and self.enabled.qresync and selected is not None and self._dirty:
            # Something is held back: say where this client really stands [RFC 7162 §3.2.7].
            return Ok(done.text, f"HIGHESTMODSEQ {selected.cn}")
        return done

    def tell(self, *, expunges: bool) -> None:
        """Write what happened in the selected mailbox since the last time."""
        selected = self.selected
        if selected is None:
            return
        try:
            lines = selected.news(expunges=expunges, modseq=self.enabled.condstore, vanished=self.enabled.qresync,
                                  recent=not self.enabled.rev2)
        except StoreError as error:
            raise Bye("UNAVAILABLE" if error.temporary else "NONEXISTENT", "The selected mailbox is gone") from None
        self._dirty = self._dirty and not expunges
        for start in range(0, len(lines), 500):
            self.write(b"".join(lines[start : start + 500]))

    def moved_on(self, text: str) -> Ok:
        """After messages left by this client's own command: tell it, with the number it now stands at if it keeps one.

        [RFC 7162 §3.2.7, §3.2.8]
        """
        self.tell(expunges=True)
        return Ok(text, f"HIGHESTMODSEQ {self.box.cn}" if self.enabled.qresync else "")

    def on_notice(self, notice: Notice) -> None:
        """The mailbox layer committed something."""
        selected = self.selected
        if selected is None or selected.folder.fid not in notice.fids:
            return
        self._dirty = True
        if self.idle_tag and self._task is None:
            self.push()

    def push(self) -> None:
        """In IDLE: tell at once [RFC 9051 §6.3.13]. A client that does not read is told later, all in one."""
        if not self.idle_tag or self._drained is not None or self.transport.is_closing():
            return
        try:
            self.tell(expunges=True)
        except Bye as bye:
            self.bye(bye.code, bye.text)

    def begin_idle(self, tag: bytes) -> None:
        """From now on news are pushed; the next line is DONE."""
        self.write(b"+ idling\r\n")
        self.idle_tag = tag
        self._reader.expect_line()
        self.push()

    def _idle_over(self, line: bytes) -> None:
        tag, self.idle_tag = self.idle_tag, b""
        if line.upper() == b"DONE":
            self.write(status(tag, "OK", "Idle over"))
        else:
            self.write(status(tag, "BAD", "Expected DONE"))

    # what commands ask for

    @property
    def mine(self) -> Access:
        """The mailbox of this session."""
        assert self.access is not None
        return self.access

    @property
    def box(self) -> Selected:
        """The selected mailbox."""
        assert self.selected is not None
        return self.selected

    def sign_in(self, token: bytes) -> Claims:
        """The claims of a token that is good here and now, for the process at the other end; No."""
        try:
            claims = self.server.verifier.verify(token, peer_of(self.transport))
            if not self._known_peer and claims.mth != "admin":
                raise BadToken("from a process that is no frontend")
        except BadToken as bad:
            _log.warning("token refused", extra={"f": {"why": str(bad)}})
            raise No("AUTHENTICATIONFAILED", "Not accepted") from None
        return claims

    def select(self, selected: Selected) -> None:
        """Make it the selected mailbox and follow it."""
        self.deselect()
        self.selected = selected
        self._dirty = False
        selected.unsubscribe = selected.access.subscribe_changes(self.on_notice)

    def deselect(self) -> None:
        """No mailbox is selected now."""
        selected, self.selected = self.selected, None
        if selected is not None:
            selected.unsubscribe()

