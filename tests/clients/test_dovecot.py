"""Dovecot as the old server that mail is brought from, and as a second opinion on what a message's structure is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from atoll.admin.transfer.imap_client import fetched
from atoll.admin.transfer.importer import Importer, Report
from atoll.admin.transfer.message import Item, seconds_of
from atoll.admin.transfer.progress import Line
from atoll.admin.transfer.sources.imap import ImapSource
from atoll.admin.transfer.state import State
from atoll.admin.transfer.target import Mailbox, island_client
from atoll.formats.mime import find_part, parse_tree, scan
from tests.clients.dovecot import Dovecot
from tests.clients.mailsite import Site
from tests.formats.test_mime_property import message
from tests.formats.test_mime_values import MIXED
from tests.formats.wire_reader import read_value

pytestmark = pytest.mark.client("dovecot")


@pytest.fixture
def dovecot() -> Iterator[Dovecot]:
    running = Dovecot()
    yield running
    running.close()


def item(data: bytes, flags: tuple[str, ...] = (), date: bytes = b"") -> Item:
    return Item("", "", data, flags, date)


def content(mailbox: Mailbox, path: str) -> list[tuple[bytes, frozenset[str], int | None]]:
    return [(one.data, frozenset(one.flags), seconds_of(one.date)) for one in mailbox.read(path)]


def test_everything_is_brought_from_dovecot(dovecot: Dovecot, site: Site, tmp_path: Path) -> None:
    old = Mailbox(dovecot.client)
    dates = [b"24-Nov-2026 11:42:16 +0000", b" 1-Jan-1999 23:59:59 +0000"]
    flags = [("\\Seen", "$Forwarded"), ("\\Flagged", "\\Answered", "\\Draft", "Work"), ()]
    folders = {
        "INBOX": "INBOX",
        "INBOX.Gesendet": "Sent",
        "INBOX.Boats.Größe & mehr": "Boats/Größe & mehr",
        "INBOX.a%b": "a_b",
    }
    for path in folders:
        old.ensure(path, subscribe=path != "INBOX.a%b")
        old.append(
            path,
            [
                item(b"Subject: %d\r\n\r\nin %b\r\n" % (at, path.encode()), flags[at % 3], dates[at % 2])
                for at in range(250)
            ],
        )
    address = site.account().address

    def bring() -> Report:
        source = ImapSource("imap:dovecot", dovecot.client, only=[], exclude=[])
        mailbox = Mailbox(lambda: island_client(site.data, address))
        state = State(tmp_path, "imap:dovecot", address)
        try:
            return Importer(source, mailbox, state, Report("dovecot", address), Line()).run()
        finally:
            for one in (source, mailbox, state):
                one.close()

    report = bring()
    assert (report.messages, report.failed) == (1000, [])
    new = Mailbox(lambda: island_client(site.data, address))
    for path, ours in folders.items():
        assert content(new, ours)[-250:] == content(old, path)
    old.append("INBOX", [item(b"Subject: late\r\n\r\nx\r\n")])
    again = bring()
    assert (again.messages, again.already) == (1, 1000)
    for one in (old, new):
        one.close()


def messages() -> list[bytes]:
    """Well-formed messages of all shapes."""
    made = [MIXED]

    @settings(
        max_examples=150,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    @given(message)
    def make(data: bytes) -> None:
        made.append(b"Subject: generated\r\n" + data)

    make()
    return made


def plain(value: Any) -> Any:
    """A BODYSTRUCTURE without what Dovecot does in its own way: it gives a charset to every text, and no disposition to
    a part without Content-Type; it adds the line end before a delimiter to a message that ends with one."""
    if not isinstance(value, list):
        return bytes(value).lower() if isinstance(value, bytes) else value
    value = [plain(one) for one in value]
    if len(value) > 8 and value[0] == b"text":
        return [*value[:2], None if value[2] == [b"charset", b"us-ascii"] else value[2], *value[3:8]]
    if len(value) > 9 and value[0] == b"message":
        return [*value[:6], *value[7:9]]
    return value


def test_envelopes_and_structures_are_those_of_dovecot(dovecot: Dovecot) -> None:
    made = messages()
    mailbox = Mailbox(dovecot.client)
    mailbox.append("INBOX", [item(data) for data in made])
    client = dovecot.client()
    client.run(b"EXAMINE INBOX")
    compared = 0
    for response in client.run(b"FETCH 1:* (ENVELOPE BODYSTRUCTURE)"):
        pairs = fetched(response)
        if pairs is None:
            continue
        scanned = scan(made[response.number - 1])
        assert plain(read_value(scanned.envelope)[0]) == plain(pairs[b"ENVELOPE"])
        assert plain(read_value(scanned.structure)[0]) == plain(pairs[b"BODYSTRUCTURE"])
        compared += 1
    assert compared == len(made)
    client.close()
    mailbox.close()


PATHS = [(1,), (2,), (3,), (4,), (1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (1, 1, 1), (2, 2, 1)]


def test_sections_are_those_of_dovecot(dovecot: Dovecot) -> None:
    made = messages()[:60]
    mailbox = Mailbox(dovecot.client)
    mailbox.append("INBOX", [item(data) for data in made])
    client = dovecot.client()
    client.run(b"EXAMINE INBOX")
    names = [".".join(map(str, path)).encode() for path in PATHS]
    asked = b" ".join(b"BODY.PEEK[%b] BODY.PEEK[%b.MIME] BODY.PEEK[%b.HEADER]" % (name, name, name) for name in names)
    found = 0
    for response in client.run(b"FETCH 1:* (%b)" % asked):
        pairs = fetched(response)
        if pairs is None:
            continue
        data = made[response.number - 1]
        root = parse_tree(data)
        for path, name in zip(PATHS, names, strict=True):
            part = find_part(root, path)
            if part is None:  # where there is no part 1.1, Dovecot gives part 1
                continue
            for key, span in ((b"", "body"), (b".MIME", "mime"), (b".HEADER", "header")):
                where = getattr(part, span)
                ours = b"" if where is None else data[slice(*where)]
                theirs = pairs[b"BODY[%b%b]" % (name, key)] or b""
                # See `plain`: the line end before a delimiter.
                assert ours in (theirs, theirs.removesuffix(b"\r\n")), (data, path, key)
                found += 1
    assert found > 100
    client.close()
    mailbox.close()
