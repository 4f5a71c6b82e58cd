"""edge.signer -- what leaves is signed: which domain answers for it, with which of its keys.

In     messages on their way to other servers; keys of the directory; Names.
Out    the message with a DKIM-Signature for each kind of key; unsigned if nobody of us answers for it.
Spec   [RFC 6376 §3.1, §5]. A key is used once the DNS shows it, of each kind the newest: an administrator makes a new
       one, publishes it, and it takes over by itself. While the DNS does not answer, what was known last goes on.
       A message is signed as its author's domain only if the sender may write in the author's name. What strangers
       wrote is never signed as ours: where a group sends it on, ARC hands on what we found [RFC 8617 §5.1].
Fails  never: a message that cannot be signed leaves as it is; `tell` hears why.
Not    how (sealing.py), when and whereto (transport.send).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from atoll.base.clock import Clock
from atoll.directory.client.model import SigningKey
from atoll.edge import arc, canon, dkim, results, sealing
from atoll.edge.message import Message
from atoll.edge.names import Names, domain
from atoll.formats.dkim import keys
from atoll.runtime.egress import Away
from atoll.runtime.rpc import RpcError
from atoll.transport.envelope import Envelope, Recipient
from atoll.transport.pipeline import Outcomes, Send

SHOWN_SECONDS, HIDDEN_SECONDS = 3600.0, 60.0
"""How long what the DNS said of a key is believed: that it is there, that it is not."""
MAX_KNOWN = 10_000
MAX_SIGNED = 256
"""Messages whose signatures are kept for their next recipients."""
_log = logging.getLogger("atoll.edge.signer")


class Rights(Protocol):
    """directory.client.backend.Backend, as far as signing needs it."""

    async def signing_keys(self, domain: str) -> Sequence[SigningKey]:
        """Of a domain of ours, newest first."""

    async def may_send_as(self, user: bytes, address: str) -> bool:
        """May this person write in the name of this address?"""


KeyStates = Literal["signs", "replaced", "hidden", "unknown"]


@dataclass(frozen=True, slots=True)
class KeyState:
    """state: it signs; a newer one of its kind does; the DNS does not show it; the DNS does not answer."""

    selector: str
    kind: str
    state: KeyStates


@dataclass(slots=True)
class _Known:
    """A key as we have it. until: when the DNS is asked again."""

    key: keys.PrivateKey
    public: bytes
    shown: bool = False
    until: float = 0.0
    away: bool = False


class Signer:
    """One per transport process. tell: called with a domain and what is wrong with its keys, "" when nothing is."""

    def __init__(self, rights: Rights, names: Names, clock: Clock, tell: Callable[[str, str], None], *,
                 host: str) -> None:
        self._rights = rights
        self._names = names
        self._clock = clock
        self._tell = tell
        self._host = host
        self._known: dict[tuple[str, str, bytes], _Known] = {}
        self._signed: dict[tuple[bytes, tuple[str, ...]], bytes] = {}

    async def signed(self, envelope: Envelope, content: bytes) -> bytes:
        """The message as it leaves."""
        try:
            return await self._fields(envelope, content) + content
        except Exception:  # mail does not wait for a signature
            _log.exception("a message leaves unsigned")
            return content

    async def _fields(self, envelope: Envelope, content: bytes) -> bytes:
        message = Message(content)
        ours = bool(envelope.user) or envelope.own
        found = b"" if ours else self._found(message)
        if message.too_long or not (ours or found):
            return b""
        usable: list[tuple[SigningKey, keys.PrivateKey]] = []
        for name in await self._names_for(envelope, message) if ours else _above(self._host):
            usable = await self._usable(name)
            if usable:
                break
        if not usable:
            return b""
        place = (envelope.id, tuple(f"{one.selector}.{one.domain}" for one, _ in usable))
        if place not in self._signed:
            body, _ = await canon.BodyDigest(message).get(relaxed=True)
            if len(self._signed) >= MAX_SIGNED:
                del self._signed[next(iter(self._signed))]
            self._signed[place] = self._made(message, body, usable, found)
        return self._signed[place]

    def _made(self, message: Message, body: bytes, usable: list[tuple[SigningKey, keys.PrivateKey]],
              found: bytes) -> bytes:
        now = self._clock.now_ms() // 1000
        if not found:
            return b"".join([sealing.seal(message, body, key, domain=one.domain, selector=one.selector, now=now)
                             for one, key in usable])
        one, key = usable[0]  # RSA if there is one: few know another for ARC
        return sealing.link(message, body, key, found, domain=one.domain, selector=one.selector, now=now)

    def _found(self, message: Message) -> bytes:
        """What we found when a stranger's message came, if it can be handed on: it was checked, its chain is whole."""
        first = message.fields[0] if message.fields else None
        if first is None or first.name != b"authentication-results" or not results.pretends(first, self._host):
            return b""
        chains = [one.result for one in results.said(first.value) if one.method == "arc"]
        try:
            count = len(arc.sets_of(message.fields))
        except dkim.Fault:
            return b""
        if chains not in ([], ["pass"]) or bool(chains) != bool(count) or count >= arc.MAX_SETS:
            return b""
        return first.raw.partition(b":")[2]

    async def _names_for(self, envelope: Envelope, message: Message) -> list[str]:
        """The domains that may answer for a message of ours, best first: the author's, those above it, the sender's."""
        author = message.author()
        sender = domain(envelope.sender.rpartition("@")[2]) or ""
        found = []
        if author.domain and (envelope.own or author.domain == sender or
                              await self._rights.may_send_as(envelope.user, author.address)):
            # Reports are from our host, which need not be a domain of its own.
            found += _above(author.domain) if envelope.own else [author.domain]
        if sender and sender not in found:
            found.append(sender)
        return found

    async def _usable(self, name: str) -> list[tuple[SigningKey, keys.PrivateKey]]:
        """Of each kind the newest key that the DNS shows, RSA first."""
        try:
            offered = await self._rights.signing_keys(name)
        except RpcError:
            return []
        chosen: dict[str, tuple[SigningKey, keys.PrivateKey]] = {}
        for one in offered:
            known = await self._look(one)
            if known is not None and known.shown:
                chosen.setdefault(keys.kind_of(known.key), (one, known.key))
        if offered:
            self._tell(name, "" if chosen else f"the DNS shows none of the DKIM keys of {name}: its mail leaves "
                                               f"unsigned; see `atoll dkim show {name}`")
        return [chosen[kind] for kind in ("rsa", "ed25519") if kind in chosen]

    async def check(self, name: str) -> list[KeyState]:
        """What becomes of each key of a domain, asked anew; newest first. RpcError."""
        offered = await self._rights.signing_keys(name)
        for one in offered:
            self._names.forget(_name_of(one), "TXT")
            known = self._known.get((one.domain, one.selector, one.private))
            if known is not None:
                known.until = 0.0
        signing = {one.selector for one, _ in await self._usable(name)}
        found = []
        for one in offered:
            known = await self._look(one)
            if known is None:
                continue
            state: KeyStates = "signs" if one.selector in signing else "replaced" if known.shown else \
                "unknown" if known.away else "hidden"
            found.append(KeyState(one.selector, keys.kind_of(known.key), state))
        return found

    async def _look(self, one: SigningKey) -> _Known | None:
        place = (one.domain, one.selector, one.private)
        known = self._known.get(place)
        if known is None:
            try:
                key = keys.private_key(one.private)
            except keys.BadKey as error:
                self._tell(one.domain, f"{one.selector}: {error}")
                return None
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            known = self._known[place] = _Known(key, keys.octets_of(key.public_key()))
        now = self._clock.monotonic()
        if known.until <= now:
            try:
                known.shown = await self._is_shown(one, known.public)
                known.away = False
            except Away:
                known.until, known.away = now + HIDDEN_SECONDS, True
            else:
                known.until = now + (SHOWN_SECONDS if known.shown else HIDDEN_SECONDS)
        return known

    async def _is_shown(self, one: SigningKey, public: bytes) -> bool:
        for record in await self._names.text(_name_of(one)):
            try:
                if keys.octets_of(keys.public_key(record).key) == public:
                    return True
            except keys.BadKey:
                continue
        return False


def _above(name: str) -> list[str]:
    """A name and those above it, down to two labels."""
    labels = name.split(".")
    return [name, *(".".join(labels[at:]) for at in range(1, len(labels) - 1))]


def _name_of(one: SigningKey) -> str:
    return f"{one.selector}._domainkey.{one.domain}"


class Signed:
    """transport.pipeline.Send, with signatures."""

    def __init__(self, send: Send, signer: Signer) -> None:
        self._send = send
        self._signer = signer

    def hop_of(self, domain: str) -> str:
        """The next hop of mail for a domain."""
        return self._send.hop_of(domain)

    async def send(self, name: str, envelope: Envelope, recipients: Sequence[Recipient],
                   content: bytes) -> Outcomes:
        """A reply for each address. NotReached."""
        return await self._send.send(name, envelope, recipients, await self._signer.signed(envelope, content))
