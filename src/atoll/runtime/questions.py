"""runtime.questions -- the DNS asked on account of strangers: what their names, messages and addresses lead to.

In     any name, even one that is no host's, and a kind of record.
Out    the records' values; nothing where there is no such record or name.
Spec   [RFC 1035], [RFC 2308 §5] for how long "no" holds. The same question is asked once, however many wait for it.
       What is kept is bounded by its octets: a stranger chooses how large the answers of his own servers are.
Fails  Away: no answer in QUESTION_SECONDS. It is not remembered.
Not    where to connect to (egress).
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from atoll.base.clock import Clock
from atoll.runtime.egress import Away, resolver_of

if TYPE_CHECKING:
    from dns.message import Message

QUESTION_SECONDS = 6.0
DEAD_AFTER, DEAD_SECONDS = 8, 2.0
"""So many questions in a row without any answer: name servers are away. Then mail waits this long for each."""
AT_ONCE = 400
"""Questions under way, each with a socket; more wait."""
KEPT_OCTETS = 8 << 20
ENTRY_OCTETS = 300
"""What an answer takes beside its values."""
MAX_ANSWER = 16 << 10
"""A longer one is not kept."""
LONGEST, NO_SECONDS = 86_400.0, 60.0
"""Answers are kept no longer, whatever they say; how long "no" holds where nothing is said."""
Values = tuple[Any, ...]
Key = tuple[str, str]


class Questions:
    """One per process. servers: "address" or "address:port" of name servers; none: the machine's own.

    tell: hears "warn" or "ok" with a sentence for `atoll health`.
    """

    def __init__(self, servers: Sequence[str], clock: Clock,
                 tell: Callable[[str, str], None] = lambda state, text: None) -> None:
        self._resolver = resolver_of(servers)
        self._clock = clock
        self._kept: OrderedDict[Key, tuple[float, int, Values]] = OrderedDict()
        self._octets = 0
        self._asking: dict[Key, asyncio.Task[Values]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tell = tell
        self._unanswered = 0

    async def text(self, name: str) -> Sequence[bytes]:
        """TXT records, the strings of each joined. Away."""
        return await self._values(name, "TXT")

    async def addresses(self, name: str, kind: str) -> Sequence[str]:
        """A or AAAA records, whether we would connect there or not. Away."""
        return await self._values(name, kind)

    async def hosts(self, name: str, kind: str) -> Sequence[str]:
        """Names that MX or PTR records give, in their order of preference. Away."""
        return await self._values(name, kind)

    def forget(self, name: str, kind: str) -> None:
        """Whatever is known of it: ask anew."""
        kept = self._kept.pop((name.removesuffix(".").lower(), kind), None)
        if kept is not None:
            self._octets -= kept[1]

    async def _values(self, name: str, kind: str) -> Values:
        key = (name.removesuffix(".").lower(), kind)
        kept = self._kept.get(key)
        if kept is not None and kept[0] > self._clock.monotonic():
            self._kept.move_to_end(key)
            return kept[2]
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.get_running_loop().create_task(self._ask(key))
            task.add_done_callback(lambda done: self._asked(key, done))
        return await asyncio.shield(task)

    def _asked(self, key: Key, done: asyncio.Task[Values]) -> None:
        self._asking.pop(key, None)
        if not done.cancelled():
            done.exception()  # whoever waits hears it; perhaps nobody does any more

    async def _ask(self, key: Key) -> Values:
        import dns.exception
        import dns.name
        import dns.resolver

        name, kind = key
        try:
            # Label by label: a backslash in a stranger's name means nothing.
            asked = dns.name.Name([*(label.encode() for label in name.split(".")), b""])
        except (dns.exception.DNSException, UnicodeEncodeError):
            return ()
        async with self._slots:
            try:
                answer = await self._resolver.resolve(
                    asked, kind, raise_on_no_answer=False,
                    lifetime=QUESTION_SECONDS if self._unanswered < DEAD_AFTER else DEAD_SECONDS)
                self._heard(True)
            except dns.resolver.NXDOMAIN as no:
                self._heard(True)
                self._keep(key, (), _no_seconds(cast(Any, no).responses().get(asked)))
                return ()
            except (dns.exception.DNSException, OSError) as error:
                self._heard(isinstance(error, dns.resolver.NoNameservers))  # that is an answer: "I cannot tell"
                raise Away(f"The name servers of {name[:100]} do not answer") from None
        if answer.rrset is None:
            values, seconds = (), _no_seconds(answer.response)
        else:
            values, seconds = _read(list(answer.rrset), kind), answer.expiration - time.time()
        self._keep(key, values, seconds)
        return values

    def _heard(self, answered: bool) -> None:
        before, self._unanswered = self._unanswered, 0 if answered else self._unanswered + 1
        if self._unanswered == DEAD_AFTER:
            self._tell("warn", f"{DEAD_AFTER} questions to the name servers in a row were not answered: mail from "
                               "strangers comes in unchecked, and waits for that")
        elif answered and before >= DEAD_AFTER:
            self._tell("ok", "")

    def _keep(self, key: Key, values: Values, seconds: float) -> None:
        size = sum(len(one) for one in values)
        if size > MAX_ANSWER or seconds <= 0:
            return
        before = self._kept.pop(key, None)
        self._octets += size + ENTRY_OCTETS - (before[1] if before is not None else 0)
        self._kept[key] = (self._clock.monotonic() + min(seconds, LONGEST), size + ENTRY_OCTETS, values)
        while self._octets > KEPT_OCTETS:
            self._octets -= self._kept.popitem(last=False)[1][1]


def _read(records: list[Any], kind: str) -> Values:
    if kind == "TXT":
        return tuple(b"".join(record.strings) for record in records)
    if kind == "MX":
        records.sort(key=lambda one: cast(int, one.preference))
        return tuple(str(record.exchange).rstrip(".") for record in records)
    if kind == "PTR":
        return tuple(str(record.target).rstrip(".") for record in records)
    return tuple(str(record.address) for record in records)


def _no_seconds(response: Message | None) -> float:
    """How long it may be kept that there is no such thing: as the zone says [RFC 2308 §5]."""
    for rrset in response.authority if response is not None else ():
        for record in rrset:
            if hasattr(record, "minimum"):
                return min(rrset.ttl, cast(int, record.minimum))
    return NO_SECONDS
