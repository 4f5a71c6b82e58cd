"""What a submitted message lacks: Message-ID and Date [RFC 6409 §8.2, §8.3]. Outlook leaves both to the server.

In     a message as a signed-in client sent it, its envelope.
Out    the same octets with the missing fields at the end of the header.
Not    messages from outside: nobody's words are changed there. Other fields: Sender, Bcc are the client's business.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime

from atoll.base.ids import to_text
from atoll.transport.envelope import Envelope

_FIELDS = re.compile(rb"^(message-id|date)[ \t]*:", re.I | re.M)


def completed(content: bytes, envelope: Envelope, host: str) -> bytes:
    """The message, complete. One without an end of its header is left alone."""
    end = content.find(b"\r\n\r\n")
    if end < 0:
        return content
    has = {found.lower() for found in _FIELDS.findall(content, 0, end)}
    added = b""
    if b"date" not in has:
        moment = datetime.fromtimestamp(envelope.received / 1000, UTC)
        added += f"Date: {format_datetime(moment)}\r\n".encode("ascii")
    if b"message-id" not in has:
        added += f"Message-ID: <{to_text(envelope.id)}@{host}>\r\n".encode()
    return b"".join((content[: end + 2], added, content[end + 2 :])) if added else content
