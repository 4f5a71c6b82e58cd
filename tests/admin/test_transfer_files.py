"""Sources and sinks on a file system, the journal, and that a round trip is equal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atoll.admin.transfer.message import Item, Unread, crlf
from atoll.admin.transfer.sinks import EmlSink, MaildirSink, MboxSink, NotEmpty
from atoll.admin.transfer.sources import Skipped, SourceFolder
from atoll.admin.transfer.sources.eml import EmlSource
from atoll.admin.transfer.sources.maildir import MaildirSource
from atoll.admin.transfer.sources.mbox import MboxSource
from atoll.admin.transfer.state import Busy, Intent, Known, State
from atoll.admin.transfer.uidls import read_uidlist

DATE = b"24-Nov-2026 11:42:16 +0000"


def item(data: bytes, flags: tuple[str, ...] = (), key: str = "1") -> Item:
    return Item(key, "x", data, flags, DATE)


def everything(source) -> dict[str, list[Item | Unread]]:
    found = {}
    for folder in source.folders():
        if isinstance(folder, SourceFolder):
            found.setdefault(folder.path, []).extend(source.items(folder, lambda key, flags: False))
    source.close()
    return found


MESSAGES = {
    "INBOX": [
        item(b"Subject: a\r\n\r\nbody\r\n", ("\\Seen", "$Label1")),
        item(b"Subject: b\r\n\r\nFrom x\r\n>From y\r\n", key="2"),
    ],
    "Archive/2025.q1": [
        item(b"X: y\r\n\r\n.\r\n\r\n", ("\\Flagged", "\\Answered", "\\Draft", "\\Deleted", "$Forwarded"))
    ],
    "Größe & mehr": [item(b"\r\nno header\r\n")],
    "empty": [],
}


def fill(sink) -> None:
    for path, items in MESSAGES.items():
        sink.folder(path)
        for one in items:
            sink.write(one)
    sink.close()


def test_maildir_there_and_back(tmp_path):
    fill(MaildirSink(tmp_path / "out"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")) == sorted(
        [".Archive.2025&AC4-q1", ".Gr&APYA3w-e &- mehr", ".empty"]
    )
    back = everything(MaildirSource(tmp_path / "out"))
    assert set(back) == set(MESSAGES)
    for path, items in MESSAGES.items():
        assert [(crlf(one.data)[0], set(one.flags), one.date) for one in back[path]] == [
            (one.data, set(one.flags), one.date) for one in items
        ]


def test_mbox_there_and_back(tmp_path):
    fill(MboxSink(tmp_path / "out"))
    back = everything(MboxSource([tmp_path / "out"]))
    for path, items in MESSAGES.items():
        got = [(crlf(one.data)[0], one.date) for one in back.get(path, [])]
        assert got == [(one.data, one.date) for one in items]


def test_eml_there_and_back(tmp_path):
    fill(EmlSink(tmp_path / "out"))
    back = everything(EmlSource([tmp_path / "out"]))
    for path, items in MESSAGES.items():
        assert [one.data for one in back.get(path, [])] == [one.data for one in items]


lines = st.lists(
    st.sampled_from([b"From a Tue Nov 24 11:42:16 2026", b">From ", b">>From x", b"From", b"", b"x", b" From y"]),
    max_size=8,
)


@given(st.lists(lines, min_size=1, max_size=4))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mboxrd_is_equal_whatever_the_lines(tmp_path, bodies):
    place = tmp_path / os.urandom(6).hex()
    sent = [b"Subject: x\r\n\r\n" + b"".join(line + b"\r\n" for line in body) for body in bodies]
    sink = MboxSink(place)
    sink.folder("INBOX")
    for data in sent:
        sink.write(item(data))
    sink.close()
    (back,) = everything(MboxSource([place])).values()
    assert [crlf(one.data)[0] for one in back] == sent


def test_sinks_want_a_new_place(tmp_path):
    (tmp_path / "x").write_text("")
    for kind in (MaildirSink, MboxSink, EmlSink):
        with pytest.raises(NotEmpty):
            kind(tmp_path)


def test_mbox_flags_thunderbird_folders_and_what_is_no_mbox(tmp_path):
    head = "From - Tue Nov 24 11:42:16 2026\n"
    (tmp_path / "Inbox").write_text(
        head + "Status: RO\nX-Status: AF\nX-Keywords: work\n\nbody\n\n" + head + "Subject: 2\n\nx\n"
    )
    (tmp_path / "Inbox.msf").write_text("// <!-- <mdb:mork")
    (tmp_path / "Inbox.sbd").mkdir()
    (tmp_path / "Inbox.sbd" / "Boats").write_text(head + "\n\nFrom here on no separator\n\nFrom nothing\n")
    source = MboxSource([tmp_path])
    folders = source.folders()
    assert [one.where.rpartition("/")[2] for one in folders if isinstance(one, Skipped)] == ["Inbox.msf"]
    back = everything(source)
    assert [one.flags for one in back["INBOX"]] == [("\\Seen", "\\Answered", "\\Flagged", "work"), ()]
    assert len(back["Inbox/Boats"]) == 1
    # A message's key does not depend on what follows it: a grown file is read on.
    keys = [one.key for one in back["INBOX"]]
    with (tmp_path / "Inbox").open("a") as file:
        file.write("\n" + head + "Subject: 2\n\nx\n")
    grown = [one.key for one in everything(MboxSource([tmp_path]))["INBOX"]]
    assert grown[:2] == keys
    assert len(set(grown)) == 3


def test_maildir_of_dovecot(tmp_path):
    for part in ("cur", "new", "tmp", ".Sent/cur", ".INBOX/cur", "plain/cur"):
        (tmp_path / part).mkdir(parents=True)
    (tmp_path / "dovecot-keywords").write_text("0 $Work\n25 last\n26 beyond\n")
    (tmp_path / "cur" / "1.x:2,Saz").write_bytes(b"a")
    (tmp_path / "new" / "2.x").write_bytes(b"b")
    (tmp_path / "tmp" / "3.x").write_bytes(b"c")
    (tmp_path / "plain" / "cur" / "4.x:2,").write_bytes(b"d")
    back = everything(MaildirSource(tmp_path))
    assert set(back) == {"INBOX", "Sent", "plain"}
    assert [(one.key, one.flags) for one in back["INBOX"] if isinstance(one, Item)][:2] == [
        ("1.x", ("\\Seen", "$Work", "last")),
        ("2.x", ()),
    ]


# the journal


def intent(*keys: str) -> Intent:
    return Intent("INBOX", "7", list(keys), "INBOX", 1, 5, [10] * len(keys))


def test_journal_survives_and_ignores_a_torn_line(tmp_path):
    state = State(tmp_path, "imap:a@b", "alice@example.test")
    state.intend(intent("1", "2", "3"))
    state.done(intent("1", "2", "3", "9", "x-1", "0012"), [])
    state.intend(intent("4"))
    state.close()
    with state.path.open("a") as file:
        file.write('{"done":["INBOX","7",["4"')
    for _ in range(2):
        state = State(tmp_path, "imap:a@b", "Alice@Example.test")
        assert [key for key in ("1", "2", "3", "4", "9", "x-1", "0012", "12") if state.has("INBOX", "7", key)] == [
            "1", "2", "3", "9", "x-1", "0012",
        ]  # fmt: skip
        assert not state.has("INBOX", "8", "1")
        assert state.pending == intent("4")
        state.close()
    state = State(tmp_path, "imap:a@b", "alice@example.test")
    state.dropped()
    state.close()
    assert State(tmp_path, "imap:a@b", "alice@example.test").pending is None


def test_journal_of_an_older_version_is_read(tmp_path):
    state = State(tmp_path, "s", "t")
    state.close()
    with state.path.open("a") as file:
        file.write('{"intent":{"folder":"INBOX","generation":"7","keys":["4"],"target":"INBOX","uidvalidity":1,'
                   '"uidnext":5,"sizes":[10]}}\n{"done":["INBOX","7",["1:3"]]}\n')
    state = State(tmp_path, "s", "t")
    assert state.known("INBOX", "7", "2") == Known()
    assert state.pending is None
    state.close()


def test_journal_knows_the_flags_last_seen(tmp_path):
    state = State(tmp_path, "s", "t")
    state.done(Intent("INBOX", "7", ["1", "2"], "INBOX", 1, 5, [1, 1], ["", "\\Seen"]), [5, 9])
    state.flagged("INBOX", "7", [("1", "\\Flagged \\Seen")])
    state.close()
    state = State(tmp_path, "s", "t")
    assert state.known("INBOX", "7", "1") == Known("INBOX", 1, 5, "\\Flagged \\Seen")
    assert state.known("INBOX", "7", "2") == Known("INBOX", 1, 9, "\\Seen")
    state.close()


def test_unique_ids_of_files(tmp_path):
    for part in ("cur", "new", "tmp", ".Sent/cur"):
        (tmp_path / part).mkdir(parents=True)
    for name in ("1.x:2,S", "2.x:2,"):
        (tmp_path / "cur" / name).write_bytes(b"a")
    (tmp_path / ".Sent" / "cur" / "3.x").write_bytes(b"a")
    (tmp_path / "dovecot-uidlist").write_text("3 V1275660208 N25022 G3085f01b7f11094c501100008c4a11c1\n"
                                              "25006 W4305 P0000000a4bbd :1.x:2,S\n25017 W2481 :2.x\nnonsense\n")
    (tmp_path / ".Sent" / "dovecot-uidlist").write_text("3 V1 N2\n1 Pabc :3.x\n")
    back = everything(MaildirSource(tmp_path))
    assert {one.key: one.uidl for one in back["INBOX"]} == {"1.x": "0000000a4bbd", "2.x": "000061b94c0907b0"}
    assert [one.uidl for one in back["Sent"]] == [""]  # POP3 shows the INBOX
    (tmp_path / "box").write_bytes(b"From x Tue Nov 24 11:42:16 2026\nX-UIDL: AbC!1\nStatus: O\n\na\n")
    (before,) = everything(MboxSource([tmp_path / "box"]))["box"]
    assert (before.uidl, before.flags) == ("AbC!1", ())
    (tmp_path / "box").write_bytes(b"From x Tue Nov 24 11:42:16 2026\nX-UIDL: AbC!1\nStatus: RO\n\na\n")
    (after,) = everything(MboxSource([tmp_path / "box"]))["box"]
    assert (after.key, after.flags) == (before.key, ("\\Seen",))  # read meanwhile: the same message


@given(st.text(max_size=300))
def test_any_uidlist_is_read(text):
    assert all(0 < len(uidl) <= 70 for uidl in read_uidlist(text).values())
    assert read_uidlist("1 77 3\n5 name:2,S\n") == {"name": "000000050000004d"}


def test_journal_is_private_and_has_one_owner(tmp_path):
    state = State(tmp_path / "import", "s", "t")
    assert state.path.stat().st_mode & 0o077 == 0
    with pytest.raises(Busy):
        State(tmp_path / "import", "s", "t")
    State(tmp_path / "import", "s", "other").close()
    state.close()


@given(st.lists(st.one_of(st.integers(0, 50).map(str), st.text("ab:-0", min_size=1, max_size=4)), max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_journal_keeps_any_keys(tmp_path, keys):
    keys = [key for key in keys if ":" not in key]
    place = Path(tmp_path / os.urandom(6).hex())
    state = State(place, "s", "t")
    state.done(Intent("f", "g", keys, "INBOX", 1, 5, [10] * len(keys), ["\\Seen"] * len(keys)),
               list(range(5, 5 + len(keys))))
    state.close()
    state = State(place, "s", "t")
    assert all(state.has("f", "g", key) for key in keys)
    assert len(state._folders[("f", "g")]) == len(set(keys))
    last = {key: 5 + at for at, key in enumerate(keys)}
    assert all(state.known("f", "g", key) == Known("INBOX", 1, uid, "\\Seen") for key, uid in last.items())
    state.close()
