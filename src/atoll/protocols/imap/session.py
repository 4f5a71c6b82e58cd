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
from typing import cast

from atoll.base.failpoints import FAILPOINTS
from atoll.directory.client.model import MailboxInfo
from atoll.directory.client.tokens import BadToken, Claims
from atoll.mailbox import Access, Notice, StoreError
from atoll.protocols.imap.command import Ok, State
from atoll.protocols.imap.errors import Bad, Bye, No, to_no
from atoll.protocols.imap.host import Enabled, Host
from atoll.protocols.imap.remote import OTHER_USERS, Elsewhere, Link, connect, homeward
from atoll.protocols.imap.selected import Selected
from atoll.protocols.imap.staged import Staged
from atoll.protocols.imap.wire.cursor import Cursor
from atoll.protocols.imap.wire.errors import BadCharset
from atoll.protocols.imap.wire.reader import Broken, Continue, Event, Line, Reader, TooBig
from atoll.protocols.imap.wire.reader import Command as Text
from atoll.protocols.imap.wire.response import status
from atoll.runtime.peers import peer_of
from atoll.runtime.rpc import RpcError

LINGER_SECONDS = 1.0

_log = logging.getLogger("atoll.imap")


class Session(asyncio.Protocol):
    """One connection from a frontend, or from another mailbox process."""

    __slots__ = ("_bad", "_deaf", "_dirty", "_drained", "_held", "_known_peer", "_reader", "_task", "access", "claims",
                 "enabled", "idle_tag", "last_active", "links", "others", "remote", "running", "selected", "server",
                 "staged", "transport")

    def __init__(self, server: Host) -> None:
        self.server = server
        self._reader = Reader(server.limits.line, server.literal_limit, server.limits.drain)
        self._held = 0  # bytes of a large command, counted for the whole process
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
        self.links: dict[bytes, Link] = {}   # mailbox id -> the process that has it
        self.remote: Link | None = None      # where the selected mailbox is, when not here
        self.running: Text | None = None
        self.selected: Selected | None = None
        self.staged = Staged()
        self.transport: asyncio.Transport

    # connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's TLS transport is none by class
        self._known_peer = self.server.enter(self, peer_of(transport))
        self.touch()
        self.write(b"* OK [CAPABILITY IMAP4rev1 AUTH=ATOLL SASL-IR] Atoll mailbox ready\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self.deselect()
        self._count(0)
        self.staged.take(self.server)
        for link in list(self.links.values()):
            link.transport.close()
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
        if self._task is None and self._drained is None:
            self.touch()
            self._work()
        elif len(self._reader) > self.server.limits.read_ahead:
            self.transport.pause_reading()

    def pause_writing(self) -> None:
        self._drained = asyncio.get_running_loop().create_future()
        for link in self.links.values():
            link.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None
        for link in self.links.values():
            link.transport.resume_reading()
        if self._task is None and not self.transport.is_closing():
            self.transport.resume_reading()
            self._next_turn()

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
        await self.drain()
        await self.server.turns.take()

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
        while self._task is None and self._drained is None and not self._deaf and not self.transport.is_closing():
            event = self._next()
            if event is None:
                return
            self._on(event)

    def _next(self) -> Event | None:
        event = self._reader.next()
        self._count(self._reader.expected)
        return event

    def _count(self, expected: int) -> None:
        held = expected if expected > self.server.limits.large else 0
        if held != self._held:
            self.server.held += held - self._held
            self._held = held

    def _on(self, event: Event) -> None:
        match event:
            case Text():
                self._begin(event)
            case Line(data):
                self._idle_over(data)
            case Continue():
                self.write(b"+ Ready\r\n")
            case TooBig():
                if event.size <= self.server.limits.append:
                    self.write(status(event.tag, "NO", "Too much at once, try again later", "LIMIT"))
                else:
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
                await self.drain()
                event = self._next()
                if event is None:
                    break
                if isinstance(event, Text):
                    await self._answer(event)
                else:
                    self._on(event)
            if not self.transport.is_closing():
                self.transport.resume_reading()
        except (asyncio.CancelledError, ConnectionError):
            self.transport.abort()
        finally:
            self._task = None
            self.touch()
        self._next_turn()

    def _next_turn(self) -> None:
        if self._dirty:
            self.push()
        self._work()  # what arrived since the last look

    async def _answer(self, command: Text) -> None:
        tag = command.tag
        await self.server.starts.take()  # short turns: what is under way needs several
        try:
            if command.bad:
                raise Bad(command.bad)
            done = await self._execute(command)
            self._bad = 0
            if done is None:
                return
            word, text, code = "OK", done.text, done.code
        except (BadCharset, No) as no:
            word, text, code = "NO", no.text, no.code
        except Bad as bad:
            word, text, code = "BAD", bad.text, bad.code
            self._bad += 1
        except (StoreError, RpcError) as error:
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
        if FAILPOINTS.active:
            FAILPOINTS.hit("imap.reply.before")
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

    async def _execute(self, command: Text) -> Ok | None:
        """Run it. None: it is answered already, or will be (IDLE)."""
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
        try:
            args = entry.parse(cur)
        except BadCharset as bad:
            if bad.saves and self.selected is not None:
                self.selected.saved = ()
            raise
        if self.remote is not None and (entry.state is State.SELECTED or name in ("NOOP", "IDLE")):
            await self._relay_selected(self.remote, command, name, args)
            return None
        self.running = command
        try:
            done = await entry.run(self, args, command.tag)
        except Elsewhere as elsewhere:
            await self._relay(command, name, elsewhere.info)
            return None
        finally:
            self.running = None
        if self.idle_tag:
            return None
        return self._with_news(done, expunges=entry.expunges) if self.selected is not None else done

    def _check_state(self, state: State) -> None:
        if self.access is None and state is not State.ANY and state is not State.NOT_AUTHENTICATED:
            raise Bad("Sign in first")
        if self.access is not None and state is State.NOT_AUTHENTICATED:
            raise Bad("Signed in already")
        if state is State.SELECTED and not self.has_selected:
            raise Bad("No mailbox selected")

    # folders of other processes

    @property
    def is_delegate(self) -> bool:
        """Is this another mailbox process, asking for a person of its own?"""
        return self.claims is not None and self.claims.mth == "exchange"

    @property
    def has_selected(self) -> bool:
        return self.selected is not None or self.remote is not None

    async def link_to(self, info: MailboxInfo, *, carrying: bool = False) -> Link:
        """The connection to the process of that mailbox; No. A delegate's goes on from here only to carry messages."""
        if self.claims is None or (self.is_delegate and not carrying):
            raise No("NONEXISTENT", "No such folder")
        link = self.links.get(info.mailbox)
        if link is None:
            link = await connect(self, self.server.people, self.claims.sid, self.claims.sub, info,
                                 self.server.socket_of(info.backend), self.enabled.names())
            self.links[info.mailbox] = link
        return link

    def link_lost(self, link: Link) -> None:
        """Another process closed, or we did."""
        for mailbox, one in list(self.links.items()):
            if one is link:
                del self.links[mailbox]
        if self.remote is link:
            self.remote = None
            self.bye("UNAVAILABLE", "That mailbox is not available just now")

    async def enable_there(self, words: list[str]) -> None:
        """What the client switches on is on at the other ends too."""
        for link in list(self.links.values()) if words else ():
            await link.ask(b"l", b"l ENABLE " + " ".join(words).encode("ascii"), quiet=True)

    async def pass_on(self, info: MailboxInfo) -> None:
        """Have the running command answered there too; how it ends there is not told."""
        if self.running is not None:
            await (await self.link_to(info)).ask(self.running.tag, self.running.data)

    async def _relay(self, command: Text, name: str, info: MailboxInfo) -> None:
        link = await self.link_to(info)
        line = await link.ask(command.tag, command.data)
        if name in ("SELECT", "EXAMINE") and line.startswith(command.tag + b" OK"):
            self.remote = link
        self.write(line)

    async def _relay_selected(self, link: Link, command: Text, name: str, args: object) -> None:
        if name == "IDLE":
            self.idle_tag = command.tag
            self._reader.expect_line()
            link.begin_idle(command.tag)
            return
        data = command.data
        if isinstance(args, tuple) and name.endswith(("COPY", "MOVE")) and not args[1].startswith(OTHER_USERS + "/"):
            data = homeward(data, args[1], self.mine.address, utf8=self.enabled.rev2)
        line = await link.ask(command.tag, data)
        if name in ("CLOSE", "UNSELECT") and line.startswith(command.tag + b" OK"):
            self.remote = None
        self.write(line)

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
        """After messages left by this client's own command: tell it, and its number [RFC 7162 §3.2.7, §3.2.8]."""
        self.tell(expunges=True)
        return Ok(text, f"HIGHESTMODSEQ {self.box.cn}" if self.enabled.qresync else "")

    def on_notice(self, notice: Notice) -> None:
        """The mailbox layer committed something."""
        selected = self.selected
        if selected is None or not (notice.gone or selected.folder.fid in notice.fids):
            return
        self._dirty = True
        if notice.gone and self._task is None:  # the database went (dismounted, restored, in doubt): so do we
            self.bye("UNAVAILABLE", "The mailbox is not available just now")
            return
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
        if self.remote is not None:
            self._task = asyncio.get_running_loop().create_task(self._remote_idle_over(self.remote, line))
        elif line.upper() == b"DONE":
            self.write(status(tag, "OK", "Idle over"))
        else:
            self.write(status(tag, "BAD", "Expected DONE"))

    async def _remote_idle_over(self, link: Link, line: bytes) -> None:
        try:
            self.write(await link.finish_idle(line))
        except No:
            self.transport.close()
        finally:
            self._task = None
        self._work()

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

    @property
    def administers(self) -> bool:
        """Was it opened with a token that an operator's command asked for?"""
        return self.claims is not None and self.claims.mth == "admin"

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

    def use_condstore(self) -> None:
        """The client knows mod-sequences; at its first word of it, it hears where the mailbox is [RFC 7162 §3.1]."""
        if not self.enabled.condstore:
            self.enabled.condstore = True
            if self.selected is not None:
                self.write(b"* OK [HIGHESTMODSEQ %d] Highest\r\n" % self.selected.cn)

    def deselect(self) -> None:
        """No mailbox is selected now."""
        selected, self.selected = self.selected, None
        if selected is not None:
            selected.unsubscribe()
        link, self.remote = self.remote, None
        if link is not None:
            # Closed later, forgotten now: who selects there again needs another one.
            self.links = {mailbox: one for mailbox, one in self.links.items() if one is not link}
            link.transport.close()
