"""SMTP commands with parameters: MAIL, RCPT, BDAT, and the addresses in them.

In     the text behind the verb.
Out    MailFrom, RcptTo, Chunk.
Spec   [RFC 5321 §4.1.1, §4.1.2], [RFC 1870] SIZE, [RFC 6152] BODY, [RFC 6531] SMTPUTF8, [RFC 3461] DSN, [RFC 3030].
Fails  Refuse(reply): said to the peer as it is.
"""

from __future__ import annotations

import ipaddress
import re

import msgspec

from atoll.formats.smtp import replies
from atoll.formats.smtp.replies import Reply

LOCAL_PART = 64
DOMAIN = 255
_ATOM = r"[^\s\x00-\x20\x7f()<>\[\]:;@\\,.\"]+"
_DOT_STRING = re.compile(rf"{_ATOM}(?:\.{_ATOM})*\Z")
_QUOTED = re.compile(r'"(?:[^\x00-\x1f\x7f"\\]|\\[\x20-\x7e])+"\Z')
_LABEL = r"[A-Za-z0-9\u0080-\U0010ffff_](?:[A-Za-z0-9\u0080-\U0010ffff_-]{0,61}[A-Za-z0-9\u0080-\U0010ffff_])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?\Z")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*\Z")
_ORCPT = re.compile(r"[A-Za-z0-9-]+;[^\x00-\x20\x7f]+\Z")
_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*\Z")
_PLAIN = (r"(?=[^@]{1,64}@)([A-Za-z0-9_+=-]+(?:\.[A-Za-z0-9_+=-]+)*)@"
          r"([A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*)")
# What nearly every command looks like, by one expression; whatever else goes the long way and has the same outcome.
_PLAIN_MAIL = re.compile(rf"(?i:FROM):<{_PLAIN}>(?i: SIZE=([0-9]{{1,19}}))?(?i:( BODY=8BITMIME))?\Z")
_PLAIN_RCPT = re.compile(rf"(?i:TO):<{_PLAIN}>\Z")
NOTIFY = frozenset({"NEVER", "SUCCESS", "FAILURE", "DELAY"})


class Refuse(Exception):
    """A command that is answered with this reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text)
        self.reply = reply


BAD_SENDER = Reply(501, "5.1.7", "Bad sender address syntax")
BAD_RECIPIENT = Reply(501, "5.1.3", "Bad recipient address syntax")
UTF8_SENDER = Reply(553, "5.6.7", "Address needs SMTPUTF8")
UNKNOWN_PARAMETER = Reply(555, "5.5.4", "Parameter not recognized")


class MailFrom(msgspec.Struct, frozen=True, gc=False):
    """MAIL FROM. sender "" is the null path."""

    sender: str
    size: int = 0
    body: str = "7BIT"
    utf8: bool = False
    ret: str = ""
    envid: str = ""


class RcptTo(msgspec.Struct, frozen=True, gc=False):
    """RCPT TO, with what DSN asks for."""

    recipient: str
    notify: frozenset[str] = frozenset()
    orcpt: str = ""


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """BDAT."""

    size: int
    last: bool


def split_address(address: str) -> tuple[str, str]:
    """(local part, domain) of a valid address."""
    local, _, domain = address.rpartition("@")
    return local, domain


def _valid(address: str) -> bool:
    local, domain = split_address(address)
    if not local or len(local.encode()) > LOCAL_PART or len(domain.encode()) > DOMAIN:
        return False
    if not (_DOT_STRING.match(local) or _QUOTED.match(local)):
        return False
    if domain.startswith("["):
        return _literal(domain)
    return _DOMAIN.match(domain) is not None


def _literal(domain: str) -> bool:
    if not domain.endswith("]"):
        return False
    inner = domain[1:-1]
    try:
        ipaddress.IPv6Address(inner[5:]) if inner[:5].upper() == "IPV6:" else ipaddress.IPv4Address(inner)
    except ValueError:
        return False
    return True


def _path(text: str, bad: Reply) -> tuple[str, str]:
    """(address or "", rest) of "<...> rest". A source route is refused: nobody has a use for it but a relay thief."""
    text = text.lstrip(" ")  # "MAIL FROM: <a@b>": an old habit of many programs
    if not text.startswith("<"):
        raise Refuse(bad)
    quoted = False
    for at in range(1, len(text)):
        char = text[at]
        if char == "\\" and quoted:
            continue
        if char == '"' and text[at - 1] != "\\":
            quoted = not quoted
        elif char == ">" and not quoted:
            return text[1:at], text[at + 1 :]
    raise Refuse(bad)


def _parameters(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    if text and not text.startswith(" "):
        raise Refuse(replies.SYNTAX)
    for word in text.split():
        key, equals, value = word.partition("=")
        key = key.upper()
        if not _KEYWORD.match(key) or key in found or (equals and not value):
            raise Refuse(replies.SYNTAX)
        found[key] = value
    return found


def _after(text: str, word: str) -> str:
    if text[: len(word)].upper() != word:
        raise Refuse(replies.SYNTAX)
    return text[len(word) :]


def parse_mail(text: str) -> MailFrom:
    """What stands behind "MAIL "."""
    if (plain := _PLAIN_MAIL.match(text)) is not None and len(plain[2]) <= DOMAIN:
        return MailFrom(f"{plain[1]}@{plain[2]}", int(plain[3] or 0), "8BITMIME" if plain[4] else "7BIT")
    address, rest = _path(_after(text, "FROM:"), BAD_SENDER)
    if address and not _valid(address):
        raise Refuse(BAD_SENDER)
    found = _parameters(rest)
    size = found.pop("SIZE", "0")
    body = found.pop("BODY", "7BIT").upper()
    utf8 = "SMTPUTF8" in found
    if utf8 and found.pop("SMTPUTF8"):
        raise Refuse(replies.SYNTAX)
    ret, envid = found.pop("RET", "").upper(), found.pop("ENVID", "")
    found.pop("AUTH", "")  # accepted and not believed [RFC 4954 §5]
    if not size.isascii() or not size.isdigit() or len(size) > 20 or body not in ("7BIT", "8BITMIME", "BINARYMIME"):
        raise Refuse(replies.SYNTAX)
    if ret not in ("", "FULL", "HDRS") or len(envid) > 100 or not _XTEXT.match(envid):
        raise Refuse(replies.SYNTAX)
    if found:
        raise Refuse(UNKNOWN_PARAMETER)
    if not address.isascii() and not utf8:
        raise Refuse(UTF8_SENDER)
    return MailFrom(address, int(size), body, utf8, ret, envid)


def parse_rcpt(text: str, *, utf8: bool) -> RcptTo:
    """What stands behind "RCPT "."""
    if (plain := _PLAIN_RCPT.match(text)) is not None and len(plain[2]) <= DOMAIN:
        return RcptTo(f"{plain[1]}@{plain[2]}")
    address, rest = _path(_after(text, "TO:"), BAD_RECIPIENT)
    if address.lower() != "postmaster" and not _valid(address):
        raise Refuse(BAD_RECIPIENT)
    found = _parameters(rest)
    notify = frozenset(filter(None, found.pop("NOTIFY", "").upper().split(",")))
    orcpt = found.pop("ORCPT", "")
    if not notify <= NOTIFY or ("NEVER" in notify and len(notify) > 1):
        raise Refuse(replies.SYNTAX)
    if len(orcpt) > 500 or (orcpt and not _ORCPT.match(orcpt)):
        raise Refuse(replies.SYNTAX)
    if found:
        raise Refuse(UNKNOWN_PARAMETER)
    if not address.isascii() and not utf8:
        raise Refuse(UTF8_SENDER)
    return RcptTo(address, notify, orcpt)


def parse_bdat(text: str) -> Chunk:
    """What stands behind "BDAT "."""
    size, _, last = text.strip().partition(" ")
    if not size.isascii() or not size.isdigit() or len(size) > 12 or last.strip().upper() not in ("", "LAST"):
        raise Refuse(replies.SYNTAX)
    return Chunk(int(size), bool(last.strip()))
