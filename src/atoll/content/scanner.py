"""Where a message is looked at: here when that is quick, in the content role when it is large.

In     a message's bytes.
Out    what formats.mime.scan and search_text give; for a message that the content role refused, its header only, and
       the word that it is opaque: it is looked at again some day (mailbox.rescan).
Spec   ARCHITECTURE "Transport": what could take more than 2 ms or 1 MB of structure is parsed in `content`.
Fails  never: mail is neither lost nor refused for what is inside it. A content role that stays away is done without.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from msgspec import structs

from atoll.content.client import ContentClient, ContentError
from atoll.content.jobs import parts
from atoll.formats.mime import Part, ScanLimits, Scanned, SearchText, header_end, scan, search_text

QUICK = 64 << 10
"""Octets that are looked at in well under 2 ms, whatever they hold."""
QUICK_FEW_PARTS = 512 << 10
"""Octets that are looked at in under 2 ms when they have few lines that could begin a part."""
FEW = 100
OPAQUE = ScanLimits(depth=0, parts=1, addresses=1000, header_block=256 << 10, candidates=0)
"""The header's fields, and one part that is not looked into."""

_like_parts = re.compile(rb"\n--").findall
"""bytes.count takes twice as long."""
T = TypeVar("T")
log = logging.getLogger(__name__)


def quick(data: bytes) -> bool:
    """Does scan() take less than a slice of the loop?"""
    return len(data) <= QUICK or (len(data) <= QUICK_FEW_PARTS and len(_like_parts(data)) <= FEW)


class Scanner:
    """Made once per mailbox process. client None: everything large is looked at in a thread of our own."""

    def __init__(self, client: ContentClient | None = None) -> None:
        self._client = client
        self.counts = {"here": 0, "elsewhere": 0, "refused": 0, "away": 0}

    async def scan(self, data: bytes) -> Scanned:
        """formats.mime.scan, never for long on the loop."""
        if quick(data):
            return scan(data)
        ask = self._client.scan if self._client is not None else None
        return await self._look(ask, scan, lambda message: structs.replace(scan(message, OPAQUE), opaque=True), data)

    async def text(self, data: bytes) -> SearchText:
        """formats.mime.search_text of a message that is not small."""
        ask = self._client.text if self._client is not None else None
        return await self._look(ask, search_text, lambda message: replace(
            search_text(message[:header_end(message)], OPAQUE), opaque=True), data)

    async def scan_again(self, data: bytes) -> Scanned:
        """Of a message that was opaque: by the content role or not at all. ContentError."""
        return await (self._client.scan(data) if self._client is not None else asyncio.to_thread(scan, data))

    async def text_again(self, data: bytes) -> SearchText:
        """Likewise."""
        return await (self._client.text(data) if self._client is not None else asyncio.to_thread(search_text, data))

    async def parts(self, data: bytes, paths: list[tuple[int, ...]]) -> list[Part | None]:
        """Where these parts of a message are that is not small."""
        client = self._client
        ask = None if client is None else lambda message: client.parts(message, paths)
        return await self._look(ask, lambda message: parts(message, paths),
                                lambda message: parts(message, paths, OPAQUE), data)

    async def _look(self, ask: Callable[[bytes], Awaitable[T]] | None, here: Callable[[bytes], T],
                    opaque: Callable[[bytes], T], data: bytes) -> T:
        if ask is not None:
            try:
                found = await ask(data)
            except ContentError as error:
                log.warning("not looked at by the content role", extra={"f": {"why": error.reason, "bytes": len(data)}})
                if error.reason == "refused":
                    self.counts["refused"] += 1
                    return opaque(data)
                self.counts["away"] += 1
            else:
                self.counts["elsewhere"] += 1
                return found
        # The role is away, not broken by this message: the parsers have limits of their own.
        self.counts["here"] += 1
        return await asyncio.to_thread(here, data)
