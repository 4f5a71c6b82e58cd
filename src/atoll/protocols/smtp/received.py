"""The Received: line of the first hop [RFC 5321 §4.4, RFC 3848 for the protocol's name]."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime


def protocol_name(*, esmtp: bool, utf8: bool, tls: bool, signed_in: bool) -> str:
    """ESMTPSA and its relatives [RFC 3848, RFC 6531 §4.3]."""
    if not esmtp:
        return "SMTP"
    return ("UTF8SMTP" if utf8 else "ESMTP") + ("S" if tls else "") + ("A" if signed_in else "")


class Stamp:
    """The date, formatted once a second."""

    def __init__(self) -> None:
        self._at = 0
        self._text = ""

    def now(self, now_ms: int) -> str:
        """For a Received: line."""
        second = now_ms // 1000
        if second != self._at:
            local = datetime.fromtimestamp(second, UTC).astimezone()
            self._at, self._text = second, format_datetime(local)
        return self._text


def received(*, helo: str, ip: str, host: str, protocol: str, tls: str, ident: str, recipient: str, date: str) -> bytes:
    """The line, folded. Of helo, the client's own word, only what is printable and ends no comment is kept."""
    safe = "".join([char for char in helo if " " < char < "\x7f" and char not in "()<>\\;\""])[:255] or "unknown"
    address = f"[{'IPv6:' if ':' in ip else ''}{ip}]"
    how = f" ({tls})" if tls else ""
    whom = f"\r\n\tfor <{recipient}>" if recipient else ""
    return (f"Received: from {safe} ({address})\r\n\tby {host} with {protocol}{how} id {ident}{whom};\r\n"
            f"\t{date}\r\n").encode()

