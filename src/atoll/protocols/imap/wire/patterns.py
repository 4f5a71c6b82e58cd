"""protocols.imap.wire.patterns -- the wildcards of LIST.

In     a pattern: "*" is anything, "%" anything but "/". Out  does a name match?
Spec   [RFC 9051 §6.3.9]. INBOX in any case was made INBOX when the pattern was read; "inb*" means it as well [§5.1].
Fails  never; the time is bounded by pattern length x name length, whatever the wildcards.
"""

from __future__ import annotations

import re

_MANY = re.compile(r"[*%]*\*[*%]*")
_LITERAL = re.compile(r"[^*%]*")


class Pattern:
    """One pattern. literal: what stands before the first wildcard. is_deep: it reaches through every level."""

    __slots__ = ("_inbox", "_text", "ends_in_percent", "has_percent", "has_wildcard", "is_deep", "literal")

    def __init__(self, text: str) -> None:
        self._text = re.sub("%+", "%", _MANY.sub("*", text))
        found = _LITERAL.match(self._text)
        self.literal = found.group() if found else ""
        self.has_percent = "%" in self._text
        self.is_deep = "*" in self._text
        self.ends_in_percent = self._text.endswith("%")
        self.has_wildcard = len(self.literal) < len(self._text)
        head = self.literal[:5]
        self._inbox: Pattern | None = None
        if self.has_wildcard and head != head.upper() and "INBOX".startswith(head.upper()):
            self._inbox = Pattern(head.upper() + self._text[len(head) :])

    def matches(self, name: str) -> bool:
        """Does the pattern match the whole name?"""
        text = self._text
        if text == "*":
            return True
        if self._inbox is not None and (name == "INBOX" or name.startswith("INBOX/")):
            return self._inbox.matches(name)
        if not name.startswith(self.literal):
            return False
        if len(self.literal) == len(text):
            return name == text
        # All places of the pattern that the name so far can be at.
        at = self._reach({len(self.literal)})
        for char in name[len(self.literal) :]:
            after = set()
            for place in at:
                if place == len(text):
                    continue
                wanted = text[place]
                if wanted == "*" or (wanted == "%" and char != "/"):
                    after.add(place)
                elif wanted == char and wanted != "%":
                    after.add(place + 1)
            if not after:
                return False
            at = self._reach(after)
        return len(text) in at

    def _reach(self, places: set[int]) -> set[int]:
        """A wildcard may also stand for nothing."""
        text = self._text
        reached = set(places)
        for place in places:
            while place < len(text) and text[place] in "*%":
                place += 1
                reached.add(place)
        return reached
