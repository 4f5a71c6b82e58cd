"""Delivery status notifications that a person understands [RFC 3461, 3462, 3464].

In     the envelope of a message, what became of recipients, the message's header.
Out    the octets of a multipart/report, CRLF line ends.
Not    a notice about a notice: the caller asks wanted() first [RFC 5321 §6.1].
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from atoll.base.ids import to_text
from atoll.formats.smtp.replies import Reply
from atoll.transport.envelope import Envelope, Recipient

HEADER_MAX = 16384


@dataclass(frozen=True, slots=True)
class Failed:
    """A recipient that will not get the message, and why."""

    recipient: Recipient
    reply: Reply


def wanted(envelope: Envelope, recipient: Recipient) -> bool:
    """Does the sender want to hear of a failure, and is there one to tell?"""
    return bool(envelope.sender) and (not recipient.notify or "FAILURE" in recipient.notify)


def failure(envelope: Envelope, failed: list[Failed], content: bytes, *, host: str, ident: bytes, now_ms: int) -> bytes:
    """The report: what happened and what to do, the machine-readable part, the message's header."""
    boundary = f"report-{to_text(ident)}"
    date = format_datetime(datetime.fromtimestamp(now_ms / 1000, UTC))
    people = "\r\n".join([f"  {one.recipient.address}\r\n    {_advice(one.reply)}\r\n    The server said: "
                          f"{one.reply.code} {one.reply.status} {one.reply.text}" for one in failed])
    groups = "\r\n".join([_group(one) for one in failed])
    end = content.find(b"\r\n\r\n")
    header = content[: min(end + 2 if end >= 0 else len(content), HEADER_MAX)]
    envid = f"Original-Envelope-Id: {envelope.envid}\r\n" if envelope.envid else ""
    head = (f"Return-Path: <>\r\nDate: {date}\r\nFrom: Mail delivery <postmaster@{host}>\r\nTo: <{envelope.sender}>\r\n"
            f"Subject: Not delivered: your message could not be delivered\r\nMessage-ID: <{to_text(ident)}@{host}>\r\n"
            f"Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
            f"Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"{boundary}\"\r\n\r\n"
            f"--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
            f"Your message could not be delivered to:\r\n\r\n{people}\r\n\r\n"
            f"--{boundary}\r\nContent-Type: message/delivery-status\r\n\r\n"
            f"Reporting-MTA: dns; {host}\r\n{envid}\r\n{groups}\r\n"
            f"--{boundary}\r\nContent-Type: text/rfc822-headers\r\n\r\n")
    return head.encode("utf-8", "replace") + header + f"\r\n--{boundary}--\r\n".encode()


def _group(one: Failed) -> str:
    original = f"Original-Recipient: {one.recipient.orcpt}\r\n" if one.recipient.orcpt else ""
    return (f"{original}Final-Recipient: rfc822; {one.recipient.address}\r\nAction: failed\r\n"
            f"Status: {one.reply.status or '5.0.0'}\r\n"
            f"Diagnostic-Code: smtp; {one.reply.code} {one.reply.status} {one.reply.text}\r\n")


def _advice(reply: Reply) -> str:
    if reply.status.endswith("2.2"):
        return "The mailbox is full. Ask the person to make room, then send the message again."
    if reply.status.endswith("1.1"):
        return "There is no such address. Check how it is spelled."
    return "The mailbox did not take the message. Try again later, or ask your administrator."
