"""What an owner is told when his mailbox comes to a limit. Pure.

In     his address, the step, sizes in octets, the time.
Out    a whole message.
Spec   [RFC 3834 §5] (Auto-Submitted), [RFC 5322 §3.6].
"""

from __future__ import annotations

import hashlib
from email.utils import formatdate

from atoll.directory.client.model import FULL, NO_SENDING, WARNED, Quota

_SUBJECTS = {
    WARNED: "Your mailbox is almost full",
    NO_SENDING: "Your mailbox is full: you can no longer send",
    FULL: "Your mailbox is full: you can no longer send or receive",
}
_UNITS = (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10))


def key(day: int) -> bytes:
    """The delivery key of a warning of this day (days since 1970)."""
    return hashlib.blake2b(b"quota warning %d" % day, digest_size=16).digest()


def _size(octets: int) -> str:
    for name, unit in _UNITS:
        if octets >= unit:
            return f"{octets / unit:.1f} {name}"
    return f"{octets} bytes"


def quota_message(address: str, step: int, used: int, quota: Quota, now_ms: int) -> bytes:
    """To the owner, from the system."""
    domain = address.rpartition("@")[2]
    lines = [f"Your mailbox holds {_size(used)}.", ""]
    for limit, happens in ((quota.warn, "you are warned"), (quota.send, "you can no longer send"),
                           (quota.receive, "you can no longer send or receive")):
        if limit:
            passed = ", which is where you are now" if used >= limit else ""
            lines.append(f"  at {_size(limit)} {happens}{passed}")
    lines += ["", "To make room, delete messages that you do not need, large ones first, and empty the trash.",
              "Your administrator can give you more room.", ""]
    # SMTPUTF8 addresses [RFC 6532 §3.2] stand as they are.
    head = [f"From: Mail system <postmaster@{domain}>", f"To: <{address}>", f"Subject: {_SUBJECTS[step]}",
            f"Date: {formatdate(now_ms / 1000)}", f"Message-ID: <quota.{now_ms}@{domain}>",
            "Auto-Submitted: auto-generated", "Importance: high", "MIME-Version: 1.0",
            "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit"]
    return "\r\n".join(["Return-Path: <>", *head, "", *lines]).encode()
