"""The base subject.

In     a decoded subject.
Out    what is left without reply and forward marks, for SORT and THREAD.
Spec   RFC 5256 §2.1, steps 1 to 6.
Fails  never; only the first 1,000 characters take part.
Not    localized marks (AW:, SV:): the RFC's comparison knows none.
"""

from __future__ import annotations

import re

MAX_SUBJECT = 1000

_SPACE = re.compile(r"[ \t\r\n]+")
_LEADER = re.compile(r"(?:\[[^\[\]]*\][ \t]*)*(?:re|fwd?)[ \t]*(?:\[[^\[\]]*\][ \t]*)?:|[ \t]", re.IGNORECASE)
_BLOB = re.compile(r"\[[^\[\]]*\][ \t]*")


def base_subject(subject: str) -> tuple[str, bool]:
    """(base subject, was it a reply or forward), not casefolded."""
    text = subject[:MAX_SUBJECT]
    if ":" not in text and "[" not in text and "(" not in text and "\t" not in text and "  " not in text:
        return text.strip(" \r\n"), False
    text = _SPACE.sub(" ", text)
    marked = False
    while True:
        start, end = 0, len(text)
        # Step 2: trailers, from the end.
        while end and (text[end - 1] == " " or text[max(end - 5, 0) : end].lower() == "(fwd)"):
            if text[end - 1] == " ":
                end -= 1
            else:
                end, marked = end - 5, True
        # Steps 3 to 5: leaders, and blobs unless nothing would be left.
        while True:
            leader = _LEADER.match(text, start, end)
            if leader is not None:
                marked = marked or leader.group() != " "
                start = leader.end()
                continue
            blob = _BLOB.match(text, start, end)
            if blob is None or blob.end() >= end:
                break
            start = blob.end()
        text = text[start:end]
        # Step 6: [fwd: ...]
        if text[:5].lower() == "[fwd:" and text.endswith("]"):
            text, marked = text[5:-1], True
            continue
        return text, marked
