"""edge.arrival -- what is checked at the end of DATA of mail from strangers, and what follows from it.

In     an envelope with the client's address, the content.
Out    transport.pipeline.Checked: the content with our Authentication-Results, whether it is refused or goes to Junk,
       and the story for the message tracking log.
Spec   [RFC 7208], [RFC 6376], [RFC 8617], [RFC 9989]; [RFC 8601 §5]. All agents work at the same time, each at most
       DEADLINE seconds. A policy is applied when DMARC fails, unless a sealer that is trusted saw it pass.
Fails  a DNS that does not answer: temperror, the message is taken and the story says so.
Not    signed-in people's mail, networks that are trusted.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from atoll.base.clock import Clock
from atoll.edge import arc, canon, dkim, dmarc, results, spf
from atoll.edge.message import Author, Message
from atoll.edge.names import Names, domain, within
from atoll.formats.smtp.replies import Reply
from atoll.runtime.admission import among
from atoll.transport.envelope import Envelope
from atoll.transport.pipeline import Checked

DEADLINE = 10.0
CROWD, HURRIED = 100, 2.0
"""When so many messages are being checked, a check has this time: strangers whose name servers do not answer must not
keep others waiting."""
LATE = "not answered in time"
_STRIPPED = frozenset({b"return-path"})
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Findings:
    """What the agents found. overruled: by whom DMARC's failure is explained."""

    author: Author
    spf: spf.Result
    signatures: Sequence[dkim.Checked]
    dmarc: dmarc.Outcome
    chain: arc.Chain
    overruled: str = ""


class Arrival:
    """One per transport process. trusted: networks whose mail is not checked; sealers: whose ARC seals are believed.

    enforce: do what policies ask for; without it all is only noted.
    """

    def __init__(self, names: Names, clock: Clock, *, host: str, trusted: Iterable[Network] = (),
                 sealers: Iterable[str] = (), enforce: bool = True) -> None:
        self._names = names
        self._clock = clock
        self._host = host
        self._under_way = 0
        self.set(trusted, sealers, enforce=enforce)

    def set(self, trusted: Iterable[Network], sealers: Iterable[str], *, enforce: bool) -> None:
        """From now on."""
        self._trusted = tuple(trusted)
        self._sealers = [one for one in map(domain, sealers) if one is not None]
        self._enforce = enforce

    def applies(self, envelope: Envelope) -> bool:
        """Is this a stranger's message?"""
        return not (envelope.user or envelope.own) and bool(envelope.facts.ip) and \
            not among(envelope.facts.ip, self._trusted)

    def cleaned(self, content: bytes) -> bytes:
        """Without results in our name: for mail that is not checked."""
        end = content.find(b"\r\n\r\n")
        if b"authentication-results" not in content[: end if end >= 0 else len(content)].lower():
            return content
        return results.ours_alone(Message(content), self._host, ())

    async def check(self, envelope: Envelope, content: bytes) -> Checked:
        """Everything; never longer than twice DEADLINE."""
        message = Message(content)
        self._under_way += 1
        try:
            found = await self._find(envelope, message, DEADLINE if self._under_way < CROWD else HURRIED)
        finally:
            self._under_way -= 1
        verdict, reply, junk = self._verdict(found, envelope)
        field = results.field(self._host, found.spf, found.signatures, found.dmarc, found.chain)
        return Checked(field + results.ours_alone(message, self._host, _STRIPPED), reply, junk,
                       f"{_story(found)}; {verdict}")

    async def _find(self, envelope: Envelope, message: Message, seconds: float) -> Findings:
        digest, now = canon.BodyDigest(message), self._clock.now_ms() // 1000
        author = message.author()
        others = None
        if message.named(b"dkim-signature") or message.named(arc.SEAL):
            others = asyncio.create_task(self._signed(message, digest, now, seconds))
        by_address = await _within(
            seconds, spf.check(self._names, envelope.facts.ip, envelope.sender, envelope.facts.helo),
            spf.Result("temperror", LATE, domain(envelope.sender.rpartition("@")[2]) or "",
                       "mailfrom" if envelope.sender else "helo"))
        signatures, chain = ([], arc.Chain("none")) if others is None else await others
        outcome = await _within(seconds, dmarc.evaluate(author, by_address, signatures, self._names),
                                dmarc.Outcome("temperror", LATE, author.domain))
        return Findings(author, by_address, signatures, outcome, chain, self._overruled(author, chain))

    async def _signed(self, message: Message, digest: canon.BodyDigest, now: int,
                      seconds: float) -> tuple[list[dkim.Checked], arc.Chain]:
        signatures = _within(seconds, dkim.verify(message, digest, self._names, now), [dkim.Checked("temperror", LATE)])
        if not message.named(arc.SEAL):
            return await signatures, arc.Chain("none")
        return await asyncio.gather(signatures, _within(
            seconds, arc.verify(message, digest, self._names), arc.Chain("temperror", LATE)))

    def _overruled(self, author: Author, chain: arc.Chain) -> str:
        """The sealer that saw DMARC pass, if it and all behind it are trusted [RFC 8617 §7.2.1]."""
        for link in reversed(chain.links):
            if not any(within(link.sealer, sealer) for sealer in self._sealers):
                break
            if any((one.method, one.result) == ("dmarc", "pass") and domain(one.author) == author.domain
                   for one in results.said(link.results)):
                return link.sealer
        return ""

    def _verdict(self, found: Findings, envelope: Envelope) -> tuple[str, Reply | None, bool]:
        """(in words, the refusal, to Junk?)"""
        outcome = found.dmarc
        if found.author.forged:
            words, action = f"its author is written to deceive ({found.author.fault})", "reject"
            reply = Reply(550, "5.6.0", f"The message has {found.author.fault}")
        elif outcome.result == "permerror":
            words, action, reply = f"nobody can be held to it ({found.author.fault})", "quarantine", None
        elif outcome.result != "fail" or outcome.policy == "none":
            return "accepted", None, False
        elif found.overruled:
            return f"accepted: {found.overruled}, which is trusted, saw it pass", None, False
        else:
            words, action = f"{outcome.author} asks for {outcome.policy}", outcome.policy
            reply = _refusal(found, envelope)
        if not self._enforce:
            return f"accepted, although {words}", None, False
        if action == "reject":
            return f"refused: {words}", reply, False
        return f"to Junk: {words}", None, True


async def _within(seconds: float, work: Awaitable[T], otherwise: T) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        return otherwise


def _refusal(found: Findings, envelope: Envelope) -> Reply:
    """For the sender's postmaster."""
    signed = ", ".join(f"{one.result} ({one.domain or 'no domain'})" for one in found.signatures[:3]) or "none"
    return Reply(550, "5.7.1", f"Refused by the DMARC policy of {found.dmarc.found_at}: nothing proves that\n"
                               f"{found.dmarc.author} sent this. SPF: {found.spf.result} for {envelope.facts.ip};\n"
                               f"DKIM: {signed}.")


def _story(found: Findings) -> str:
    parts = [f"spf={found.spf.result}" + (f" {found.spf.domain}" if found.spf.domain else "")]
    parts += [f"dkim={one.result} {one.domain}" + (f" ({one.reason})" if one.reason else "")
              for one in found.signatures] or ["dkim=none"]
    parts.append(f"dmarc={found.dmarc.result}" + (f" {found.dmarc.author}" if found.dmarc.author else "")
                 + (f" by {found.dmarc.by}" if found.dmarc.by else "")
                 + (f" ({found.dmarc.reason})" if found.dmarc.reason else ""))
    if found.chain.result != "none":
        parts.append(f"arc={found.chain.result}" + (f" ({found.chain.reason})" if found.chain.reason else ""))
    return ", ".join(parts)
