"""Delivery status notifications that a person understands [RFC 3461, RFC 3462, RFC 3464, RFC 6533].

In     the envelope of a message, what became of recipients, the message's content.
Out    the octets of a multipart/report, CRLF line ends; an envelope with the null sender to carry it.
Not    a notice about a notice: there is nobody to tell [RFC 5321 §6.1].
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from atoll.base.ids import NetworkMessageId, new_id, to_text
from atoll.formats.smtp.replies import Reply
from atoll.transport.envelope import Envelope, Recipient

HEADER_MAX = 16384
_WISHES = {"failed": "FAILURE", "delayed": "DELAY"}
_XTEXT = re.compile(r"\+([0-9A-F]{2})")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one recipient; a temporary reply: he still waits."""

    recipient: Recipient
    reply: Reply

    @property
    def action(self) -> str:
        """[RFC 3464 §2.3.3]"""
        if self.reply.temporary:
            return "delayed"
        return "delivered" if self.reply.code == 250 else "failed"


def told(envelope: Envelope, outcomes: Mapping[str, Reply], addresses: Sequence[str],
         origins: Mapping[str, str]) -> list[Outcome]:
    """Of these recipients, those whose outcome the sender wants to hear of [RFC 3461 §4.1].

    origins: an address that a group stands for -> the one that the sender wrote, whose wishes hold for it.
    """
    if not envelope.sender:
        return []
    by_address = {one.address: one for one in envelope.recipients}
    found = []
    for address in addresses:
        origin = by_address[origins.get(address, address)]
        one = Outcome(origin if address == origin.address else
                      Recipient(address, origin.notify, origin.orcpt or f"rfc822;{origin.address}"), outcomes[address])
        wish = one.recipient.notify
        if ("SUCCESS" in wish) if one.action == "delivered" else (not wish or _WISHES[one.action] in wish):
            found.append(one)
    return found


def report(envelope: Envelope, outcomes: Sequence[Outcome], content: bytes, *, host: str,
           now_ms: int) -> tuple[Envelope, bytes]:
    """(the report's envelope, its octets): what happened and what to do, the machine's part, the message's header."""
    ident = NetworkMessageId(new_id())
    boundary = f"report-{to_text(ident)}"
    date = format_datetime(datetime.fromtimestamp(now_ms / 1000, UTC))
    actions = {one.action for one in outcomes}
    subject = next(text for action, text in _SUBJECTS.items() if action in actions)
    end = content.find(b"\r\n\r\n")
    header = content[: min(end + 2 if end >= 0 else len(content), HEADER_MAX)]
    ascii_only = envelope.sender.isascii() and all(one.recipient.address.isascii() for one in outcomes) \
        and header.isascii()
    kind = "" if ascii_only else "global-"
    envid = f"Original-Envelope-Id: {_plain(envelope.envid)}\r\n" if envelope.envid else ""
    head = (f"Date: {date}\r\nFrom: Mail delivery <postmaster@{host}>\r\nTo: <{envelope.sender}>\r\n"
            f"Subject: {subject}\r\nMessage-ID: <{to_text(ident)}@{host}>\r\n"
            f"Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
            f"Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"{boundary}\"\r\n\r\n"
            f"--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
            f"{_for_people(outcomes)}\r\n"
            f"--{boundary}\r\nContent-Type: message/{kind}delivery-status\r\n{_bits(ascii_only)}\r\n"
            f"Reporting-MTA: dns; {host}\r\n{envid}\r\n{_crlf.join([_group(one, kind) for one in outcomes])}\r\n"
            f"--{boundary}\r\nContent-Type: {'message/global-headers' if kind else 'text/rfc822-headers'}\r\n"
            f"{_bits(ascii_only)}\r\n")
    octets = head.encode("utf-8", "replace") + header + f"\r\n--{boundary}--\r\n".encode()
    return Envelope(ident, "", (Recipient(envelope.sender),), now_ms, utf8=not ascii_only, body="8BITMIME",
                    own=True), octets


_crlf = "\r\n"
_SUBJECTS = {"failed": "Not delivered: your message could not be delivered",
             "delayed": "Delayed: your message has not been delivered yet",
             "delivered": "Delivered: your message has arrived"}
_HEADINGS = {"failed": "Your message could not be delivered to:",
             "delayed": "Your message still waits and is tried again; you need not send it once more. It waits for:",
             "delivered": "Your message has been delivered to:"}


def _plain(xtext: str) -> str:
    """What xtext stands for [RFC 3461 §4, §6.3]; as it came when that is no text for a header line."""
    text = _XTEXT.sub(lambda found: chr(int(found[1], 16)), xtext)
    return text if all(" " <= char <= "~" for char in text) else xtext


def _bits(ascii_only: bool) -> str:
    return "" if ascii_only else "Content-Transfer-Encoding: 8bit\r\n"


def _for_people(outcomes: Sequence[Outcome]) -> str:
    lines: list[str] = []
    for action, heading in _HEADINGS.items():
        found = [one for one in outcomes if one.action == action]
        lines += [heading, ""] if found else []
        for one in found:
            lines += [f"  {one.recipient.address}", f"    {_advice(one.reply)}"]
            if action != "delivered":
                lines.append(f"    The server said: {one.reply.code} {one.reply.status} {one.reply.text}")
            lines.append("")
    return _crlf.join(lines)


def _group(one: Outcome, kind: str) -> str:
    original = f"Original-Recipient: {_plain(one.recipient.orcpt)}\r\n" if one.recipient.orcpt else ""
    return (f"{original}Final-Recipient: {'utf-8' if kind else 'rfc822'}; {one.recipient.address}\r\n"
            f"Action: {one.action}\r\nStatus: {one.reply.status or f'{one.reply.code // 100}.0.0'}\r\n"
            f"Diagnostic-Code: smtp; {one.reply.code} {one.reply.status} {one.reply.text}\r\n")


_ADVICE = {
    "1.1": "There is no such address. Check how it is spelled.",
    "1.2": "There is no such domain. Check how the part behind the @ is spelled.",
    "1.10": "This domain takes no mail. Ask the person for another address.",
    "2.2": "The mailbox is full. Ask the person to make room, then send the message again.",
    "3.4": "The message is too large for the recipient's server. Send it in parts, or a link to its attachments.",
    "7.1": "The recipient's server does not take this message from you. Ask the person to allow it.",
}
"""By enhanced code, without its class [RFC 3463 §3]."""


def _advice(reply: Reply) -> str:
    if reply.code == 250:
        return "It has arrived."
    if reply.temporary:
        return "You need do nothing now."
    return _ADVICE.get(reply.status.partition(".")[2],
                       "It was not taken there. Try again later, or ask your administrator.")
