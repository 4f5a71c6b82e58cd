"""Text of HTML, for search and previews.

In     HTML as str, well-formed or not.
Out    its text; block elements end a line, script, style and comments are gone.
Spec   the HTML standard as far as text needs it.
Fails  never; time is linear in the input.
Not    a sanitizer: the result is plain text and must be escaped wherever it is shown.
"""

from __future__ import annotations

import html
import re

_DROPPED = re.compile(r"<(?:(!--)|(script|style|head|title|template)(?=[\s>/]))", re.IGNORECASE)
_BLOCK = re.compile(
    r"</?(?:p|div|br|tr|td|th|li|ul|ol|table|h[1-6]|hr|blockquote|pre|section|article|header|footer|dt|dd)(?=[\s>/])[^<>]*>",
    re.IGNORECASE,
)
_TAG = re.compile(r"<[A-Za-z/!?][^<>]*>")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});?")


def html_to_text(source: str) -> str:
    """The text a reader would see, roughly."""
    text = _TAG.sub("", _BLOCK.sub("\n", _without_dropped(source)))
    return _ENTITY.sub(lambda match: html.unescape(match.group()), text) if "&" in text else text


def _without_dropped(source: str) -> str:
    if "<" not in source:
        return source
    kept: list[str] = []
    pos = 0
    closings: dict[str, re.Pattern[str]] = {}
    while True:
        match = _DROPPED.search(source, pos)
        if match is None:
            kept.append(source[pos:])
            return "".join(kept)
        kept.append(source[pos : match.start()])
        if match.group(1):
            end = source.find("-->", match.end())
            pos = end + 3 if end >= 0 else len(source)
            continue
        name = match.group(2).lower()
        closing = closings.get(name)
        if closing is None:
            closing = closings[name] = re.compile(f"</{name}[^<>]*>", re.IGNORECASE)
        closed = closing.search(source, match.end())
        # What never closes is dropped to the end: browsers show none of it either.
        pos = closed.end() if closed else len(source)
