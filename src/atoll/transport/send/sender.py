"""transport.send.sender -- messages for one next hop: find its servers, keep connections for what follows.

In     a next hop (a domain, or the smarthost), an envelope, recipients of it, the content.
Out    a reply for each recipient; 4xx where nobody could be spoken to.
Spec   [RFC 5321 §5] MX order and what is tried next, §4.5.4.1; [RFC 3207], [RFC 7435] TLS where it is offered.
Fails  NotReached: no server of the next hop can be spoken to. All else is a reply with an enhanced code [RFC 3463] and
       words for a person.
Not    when it is tried again (lanes), who may send (categorizing).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from atoll.base.clock import Clock
from atoll.formats.smtp.replies import Reply
from atoll.runtime.egress import Away, Egress, Never
from atoll.transport.envelope import Envelope, Recipient
from atoll.transport.pipeline import NotReached
from atoll.transport.queue import CONNECTIONS, SMARTHOST
from atoll.transport.send.client import Broken, SmtpClient

MESSAGES = 100
"""Over one connection."""
IDLE_SECONDS = 5.0
"""A connection waits so long for a message."""


@dataclass(frozen=True, slots=True)
class Smarthost:
    """The server that takes all mail that leaves. user: sign in there; verify: its certificate must be right."""

    host: str
    port: int = 587
    user: str = ""
    password: str = ""
    verify: bool = True


class _Open:
    """A connection that may take another message."""

    def __init__(self, client: SmtpClient) -> None:
        self.client = client
        self.sent = 0
        self.idle: asyncio.TimerHandle | None = None


class _Hop:
    """One next hop: who is connected to it."""

    def __init__(self) -> None:
        self.slots = asyncio.Semaphore(CONNECTIONS)
        self.idle: list[_Open] = []
        self.users = 0


class Sender:
    """One per transport process. port: of the servers that MX records name; 25 unless a test says otherwise."""

    def __init__(self, egress: Egress, clock: Clock, *, helo: str, smarthost: Smarthost | None = None,
                 port: int = 25) -> None:
        self._egress = egress
        self._clock = clock
        self._helo = helo
        self._smarthost = smarthost
        self._port = port
        self._hops: dict[str, _Hop] = {}
        self._any = ssl.create_default_context()
        self._any.check_hostname = False
        self._any.verify_mode = ssl.CERT_NONE
        self._verified = ssl.create_default_context()

    def hop_of(self, domain: str) -> str:
        """The next hop of mail for a domain."""
        return SMARTHOST if self._smarthost is not None else domain

    async def send(self, name: str, envelope: Envelope, recipients: Sequence[Recipient],
                   content: bytes) -> dict[str, Reply]:
        """A reply for each address. NotReached."""
        hop = self._hops.setdefault(name, _Hop())
        hop.users += 1
        try:
            async with hop.slots:
                return await self._send(name, hop, envelope, recipients, content)
        except Never as never:
            return _same(recipients, Reply(550, never.status, str(never)))
        except Broken as error:
            return _same(recipients, Reply(451, "4.4.2", str(error)))
        finally:
            hop.users -= 1
            if not hop.users and not hop.idle:
                self._hops.pop(name, None)

    async def _send(self, name: str, hop: _Hop, envelope: Envelope, recipients: Sequence[Recipient],
                    content: bytes) -> dict[str, Reply]:
        while hop.idle:
            kept = self._take(hop)
            try:
                return await self._over(name, hop, kept, envelope, recipients, content)
            except Broken:
                if kept.client.committing:
                    raise  # it may have the message: asking another server at once would make two of it
        return await self._over(name, hop, _Open(await self._open(name)), envelope, recipients, content)

    async def _over(self, name: str, hop: _Hop, one: _Open, envelope: Envelope, recipients: Sequence[Recipient],
                    content: bytes) -> dict[str, Reply]:
        try:
            said = await one.client.send(envelope, recipients, content)
        except BaseException:
            one.client.abort()
            raise
        one.sent += 1
        if one.client.over:
            one.client.abort()
        elif one.sent >= MESSAGES:
            one.client.quit()
        else:
            one.idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._let_go, name, hop, one)
            hop.idle.append(one)
        return said

    def _take(self, hop: _Hop) -> _Open:
        one = hop.idle.pop()
        if one.idle is not None:
            one.idle.cancel()
        return one

    def _let_go(self, name: str, hop: _Hop, one: _Open) -> None:
        hop.idle.remove(one)
        one.client.quit()
        if not hop.users and not hop.idle:
            self._hops.pop(name, None)

    async def _open(self, name: str) -> SmtpClient:
        """The first server of a next hop that can be spoken to."""
        smart = self._smarthost
        try:
            hosts = [smart.host] if smart is not None else await self._egress.exchanges(name)
        except Away as away:
            raise NotReached(Reply(451, "4.4.3", str(away))) from None
        why: Away | Never | Broken | None = None
        for host in hosts:
            try:
                return await self._speak_to(host, smart)
            except (Away, Broken, Never) as error:
                # Of several servers the one that is away decides: it may take the message later.
                why = error if why is None or isinstance(why, Never) else why
        assert why is not None
        if isinstance(why, Never):
            raise why
        raise NotReached(Reply(451, "4.4.1", str(why)))

    async def _speak_to(self, name: str, smart: Smarthost | None) -> SmtpClient:
        host = await self._egress.host(name)
        verify = smart is not None and smart.verify
        for tls in (self._verified if verify else self._any, None):
            client = SmtpClient(*await self._egress.connect(host, smart.port if smart else self._port),
                                name=name, helo=self._helo)
            try:
                await client.open(tls, must=verify)
                if smart is not None and smart.user:
                    await client.sign_in(smart.user, smart.password)
                return client
            except BaseException as error:
                client.abort()
                if not isinstance(error, Broken) or not client.handshaking or verify:
                    raise
        raise AssertionError("the second time there is no handshake")

    def close(self) -> None:
        """Say goodbye to everybody."""
        for hop in self._hops.values():
            for one in hop.idle:
                if one.idle is not None:
                    one.idle.cancel()
                one.client.quit()
            hop.idle.clear()


def _same(recipients: Sequence[Recipient], reply: Reply) -> dict[str, Reply]:
    return {one.address: reply for one in recipients}
