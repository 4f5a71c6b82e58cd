"""FILE rows of the attack catalogue: what hostile names and files do to import and export."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from atoll.admin.transfer.files import Refused
from atoll.admin.transfer.message import Item, Unread
from atoll.admin.transfer.sinks import EmlSink, MaildirSink, MboxSink, cell, csv_text
from atoll.admin.transfer.sources import Skipped, SourceFolder
from atoll.admin.transfer.sources.eml import EmlSource
from atoll.admin.transfer.sources.maildir import MaildirSource
from atoll.admin.transfer.sources.mbox import MboxSource

DATE = b"24-Nov-2026 11:42:16 +0000"
HOSTILE = [
    "../../x",
    "..",
    ".",
    "/etc/cron.d/x",
    "a/../../../b",
    "con",
    "nul.txt",
    "x\0y",
    "x\ny",
    "~",
    "$(id)",
    "-rf",
    "A",
    "a",
    "\u202egpj",
    "x" * 900,
    "C:\\Windows\\x",
    ".hidden",
    "a/b/c/d",
    " ",
    "...",
]


def names_under(path: Path) -> set[Path]:
    return {Path(root, name) for root, folders, files in os.walk(path) for name in folders + files}


@pytest.mark.parametrize("kind", [MaildirSink, MboxSink, EmlSink])
def test_F001_hostile_folder_names_stay_inside(tmp_path, kind):
    inside, beside = tmp_path / "deep" / "out", tmp_path / "beside"
    beside.mkdir()
    sink = kind(inside)
    for number, name in enumerate(HOSTILE):
        sink.folder(name)
        sink.write(Item(str(number), "x", b"Subject: x\r\n\r\nbody\r\n", (), DATE))
    sink.close()
    outside = names_under(tmp_path) - names_under(inside) - {inside, inside.parent, beside}
    assert outside == set()
    stored = sum(path.read_bytes().count(b"body") for path in names_under(inside) if path.is_file())
    assert stored == len(HOSTILE)


@pytest.mark.parametrize("kind", [MboxSink, EmlSink])
def test_F001_names_that_differ_in_case_only(tmp_path, kind):
    sink = kind(tmp_path / "out")
    for number, name in enumerate(["Case", "case", "CASE"]):
        sink.folder(name)
        sink.write(Item(str(number), "x", b"Subject: x\r\n\r\n", (), DATE))
    sink.close()
    made = [path.name for path in (tmp_path / "out").iterdir()]
    assert len({name.casefold() for name in made}) == len(made)


@pytest.mark.parametrize("kind", [MaildirSink, MboxSink, EmlSink])
def test_F001_a_link_planted_in_the_export_is_not_followed(tmp_path, kind):
    out, outside = tmp_path / "out", tmp_path / "outside"
    outside.mkdir()
    sink = kind(out)
    for name in ("Evil", ".Evil", "Evil.mbox"):
        (out / name).symlink_to(outside)

    def store() -> None:
        sink.folder("Evil")
        sink.write(Item("1", "x", b"Subject: x\r\n\r\n", (), DATE))

    with pytest.raises((Refused, FileExistsError)):
        store()
    assert list(outside.iterdir()) == []


def everything(source) -> tuple[list[Item], list[Unread | Skipped]]:
    items: list[Item] = []
    refused: list[Unread | Skipped] = []
    for folder in source.folders():
        if isinstance(folder, SourceFolder):
            for one in source.items(folder, lambda *_: False):
                (items if isinstance(one, Item) else refused).append(one)
        else:
            refused.append(folder)
    source.close()
    return items, refused


def plant(place: Path, name: str, good: bytes) -> None:
    """One good file, and what must not be read."""
    place.mkdir(parents=True, exist_ok=True)
    (place / f"good{name}").write_bytes(good)
    secret = place.parent.parent / "secret"
    secret.write_bytes(b"From x Tue Nov 24 11:42:16 2026\nSubject: secret\n\n")
    (place / f"link{name}").symlink_to(secret)
    (place / f"dangling{name}").symlink_to("/nonexistent")
    os.mkfifo(place / f"pipe{name}")
    with (place / f"huge{name}").open("wb") as file:
        file.write(good)
        file.truncate(51 * 1024 * 1024)
    if os.geteuid() == 0:
        os.mknod(place / f"device{name}", 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero


def test_F001_maildir_reads_regular_files_only(tmp_path):
    root = tmp_path / "deep" / "maildir"
    plant(root / "cur", ":2,S", b"Subject: good\n\n")
    (root / "linked").symlink_to("/etc")
    items, refused = everything(MaildirSource(root))
    assert [one.data for one in items] == [b"Subject: good\n\n"]
    assert len(refused) == (6 if os.geteuid() == 0 else 5)


def test_F001_eml_reads_regular_files_only(tmp_path):
    root = tmp_path / "deep" / "eml"
    plant(root, ".eml", b"Subject: good\n\n")
    (root / "linked").symlink_to("/etc")
    items, refused = everything(EmlSource([root]))
    assert [one.data for one in items] == [b"Subject: good\n\n"]
    assert len(refused) == (6 if os.geteuid() == 0 else 5)


def test_F001_mbox_reads_regular_files_only(tmp_path):
    root = tmp_path / "deep" / "mbox"
    plant(root, ".mbox", b"From x Tue Nov 24 11:42:16 2026\nSubject: good\n\nx\n")
    items, refused = everything(MboxSource([root]))
    assert [one.data for one in items] == [b"Subject: good\n\nx\n"]
    assert len(refused) == (5 if os.geteuid() == 0 else 4)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a file of another owner")
def test_F001_hard_link_to_a_file_of_somebody_else(tmp_path):
    root = tmp_path / "maildir" / "cur"
    root.mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"Subject: secret\n\n")
    os.link(tmp_path / "secret", root / "1.x:2,")
    (root / "2.x:2,").write_bytes(b"Subject: own copy\n\n")
    os.chown(root / "2.x:2,", 4242, 4242)
    os.link(root / "2.x:2,", root / "3.x:2,")
    for place in (root.parent, root):
        os.chown(place, 4242, 4242)
    items, refused = everything(MaildirSource(root.parent))
    assert [one.data for one in items] == [b"Subject: own copy\n\n"] * 2
    assert len(refused) == 1


def test_F001_directories_without_end(tmp_path):
    place = tmp_path / "root"
    for _ in range(60):
        place = place / "d"
    place.mkdir(parents=True)
    (place / "x.eml").write_bytes(b"Subject: deep\n\n")
    for source in (EmlSource([tmp_path / "root"]), MboxSource([tmp_path / "root"]), MaildirSource(tmp_path / "root")):
        items, _ = everything(source)
        assert items == []


@pytest.mark.parametrize("start", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\tx", "\rx"])
def test_F002_cells_are_no_formulas(tmp_path, start):
    assert cell(start) == "'" + start
    assert csv_text([(start, "plain")]).startswith("\"'")
    sink = EmlSink(tmp_path / "out")
    sink.folder("=folder")
    sink.write(Item("1", "x", b"Subject: " + start.strip().encode() + b"\r\nFrom: =x <a@b>\r\n\r\n", (), DATE))
    sink.close()
    for line in (tmp_path / "out" / "index.csv").read_text().splitlines():
        assert not any(value.strip('"').startswith(("=", "+", "-", "@")) for value in line.split(","))


def test_F003_from_lines_come_back_equal(tmp_path):
    bodies = [
        b"From someone Tue Nov 24 11:42:16 2026\r\nSubject: injected\r\n\r\nx\r\n",
        b">From quoted\r\n>>From twice\r\nFrom\r\n",
        b"\r\nFrom a@b Tue Nov 24 11:42:16 2026\r\n\r\n\r\n",
    ]
    sent = [b"Subject: outer\r\n\r\n" + body for body in bodies]
    sink = MboxSink(tmp_path / "out")
    sink.folder("INBOX")
    for data in sent:
        sink.write(Item("1", "x", data, (), DATE))
    sink.close()
    items, refused = everything(MboxSource([tmp_path / "out"]))
    assert [one.data.replace(b"\n", b"\r\n") for one in items] == sent
    assert refused == []
