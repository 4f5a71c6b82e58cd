"""admin.transfer.names -- folder names between servers, mailboxes and file systems. Pure.

In     names of other servers and of files: hostile until shown otherwise.
Out    paths of ours ("Archive/2025"), names on the wire, components that are safe as file names.
Spec   RFC 3501 §5.1.3 (modified UTF-7); RFC 6154 (special use); CWE-22.
Fails  never: what cannot be a name becomes one ("_").
Not    creating anything.
"""

from __future__ import annotations

import re

from atoll.protocols.imap.wire import utf7
from atoll.protocols.imap.wire.errors import Bad

MAX_COMPONENT = 200
MAX_PATH = 800

SPECIAL = {
    "\\drafts": "Drafts",
    "\\sent": "Sent",
    "\\trash": "Trash",
    "\\junk": "Junk",
    "\\archive": "Archive",
}
"""Special use (lower case) -> how it is called in reports. The target's own folder of that use is what counts."""

GUESSED = {
    "drafts": "\\drafts", "draft": "\\drafts", "entwürfe": "\\drafts", "brouillons": "\\drafts",
    "sent": "\\sent", "sent items": "\\sent", "sent messages": "\\sent", "sent mail": "\\sent",
    "gesendet": "\\sent", "gesendete elemente": "\\sent", "éléments envoyés": "\\sent",
    "trash": "\\trash", "deleted items": "\\trash", "deleted messages": "\\trash", "papierkorb": "\\trash",
    "gelöschte elemente": "\\trash", "corbeille": "\\trash",
    "junk": "\\junk", "junk e-mail": "\\junk", "junk email": "\\junk", "spam": "\\junk", "bulk mail": "\\junk",
    "archive": "\\archive", "archives": "\\archive", "archiv": "\\archive",
}  # fmt: skip
"""What servers without SPECIAL-USE call those folders, at the top level only."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff<>:"/\\|?*]')
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|\Z)", re.IGNORECASE)


def from_wire(raw: bytes) -> str:
    """The name that a server's octets mean; servers that do not follow the RFC are read as UTF-8, then Latin-1."""
    try:
        return utf7.decode(raw)
    except Bad:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return raw.decode("latin-1")


def to_wire(path: str) -> bytes:
    """A path as an IMAP quoted string."""
    return b'"' + utf7.encode(path).replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def component(text: str) -> str:
    """One level of one of our paths."""
    clean = _CONTROL.sub("_", text).replace("/", "_").replace("%", "_").replace("*", "_").strip()
    return clean[:MAX_COMPONENT] or "_"


def path_of(name: str, delimiter: str) -> str:
    """Our path for another server's name. INBOX is INBOX in any case, with or without children."""
    parts = [component(part) for part in (name.split(delimiter) if delimiter else [name]) if part.strip()]
    if not parts:
        return "_"
    if parts[0].upper() == "INBOX":
        parts[0] = "INBOX"
    return "/".join(parts)[:MAX_PATH].rstrip("/")


def special_use(attributes: list[str], path: str) -> str:
    """The use of a source folder, lower case: by its attributes, else by its name; "" for none."""
    for attribute in attributes:
        use = {"\\spam": "\\junk", "\\allmail": "\\all"}.get(attribute.lower(), attribute.lower())
        if use in SPECIAL or use in ("\\all", "\\flagged", "\\important"):
            return use
    top = path.removeprefix("INBOX/")
    return GUESSED.get(top.casefold(), "")


def file_component(text: str) -> str:
    """A file name that stays where it is put, on any file system: no separators, no dots first, no device names."""
    clean = _UNSAFE.sub("_", text).strip().rstrip(". ")
    if clean.startswith("."):
        clean = "_" + clean[1:]
    if _DEVICES.match(clean):
        clean = "_" + clean
    while len(clean.encode("utf-8", "replace")) > MAX_COMPONENT:
        clean = clean[:-1]
    return clean or "_"


def maildir_name(path: str) -> str:
    """The Maildir++ folder of a path: ".Archive.2025" in modified UTF-7, with the dots of a component encoded."""
    coded = []
    for part in path.split("/"):
        wire = utf7.encode(_CONTROL.sub("_", part)).decode("ascii")
        coded.append(wire.replace(".", "&AC4-").replace("/", "_") or "_")
    return "." + ".".join(coded)


def from_maildir_name(name: str) -> str:
    """Our path for a Maildir++ folder ".Archive.2025"."""
    parts = [
        from_wire(part.replace("&AC4-", ".").encode("utf-8", "surrogateescape")) for part in name[1:].split(".") if part
    ]
    return path_of("\0".join(part.replace("\0", "_") for part in parts), "\0")
