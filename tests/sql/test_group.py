"""Group commit: committed, refused, in doubt; the fence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from atoll.base import failpoints
from atoll.sql import Fenced, Full, InDoubt, SqlError
from atoll.sql import group as group_module
from atoll.sql.sqlite import SqliteEngine

from .kit import Epochs, Opened, Words, opened, outcomes


class Refused(Exception):
    pass


def adding(*words: str, refuse: bool = False):  # type: ignore[no-untyped-def]
    def work(context: Words) -> str:
        for word in words:
            context.add(word)
        if refuse:
            raise Refused(words)
        return " ".join(words)
    return work


@pytest.fixture
async def one(tmp_path: Path):  # type: ignore[no-untyped-def]
    opening = await opened(tmp_path / "a.sqlite", Epochs())
    yield opening
    await opening.close()


async def test_everything_waiting_is_one_commit(one: Opened) -> None:
    assert await outcomes(*[one.writer.submit(adding(f"w{n}")) for n in range(20)]) == [f"w{n}" for n in range(20)]
    assert one.writer.groups == 1
    assert len(one.words()) == 20


async def test_a_refusal_leaves_no_trace_and_harms_nobody(one: Opened) -> None:
    found = await outcomes(one.writer.submit(adding("a")), one.writer.submit(adding("b", "c", refuse=True)),
                           one.writer.submit(adding("d")))
    assert (found[0], found[2]) == ("a", "d")
    assert isinstance(found[1], Refused)
    assert one.words() == ["a", "d"]
    assert one.log == ["abandoned", "abandoned", "committed"]


async def test_refusing_before_writing_costs_no_second_run(one: Opened) -> None:
    found = await outcomes(one.writer.submit(adding("a")), one.writer.submit(adding(refuse=True)))
    assert found[0] == "a"
    assert one.log == ["committed"]


async def test_a_unit_may_take_turns(one: Opened) -> None:
    turns: list[str] = []

    def slow(context: Words) -> Generator[None, None, int]:
        for n in range(3):
            context.add(f"s{n}")
            turns.append("unit")
            yield
        return 3

    async def other() -> None:
        for _ in range(5):
            turns.append("loop")
            await asyncio.sleep(0)

    done, _ = await asyncio.gather(one.writer.submit(slow), other())
    assert done == 3
    assert turns.index("loop") < len(turns) - 1 - turns[::-1].index("unit")
    assert one.words() == ["s0", "s1", "s2"]


async def test_cancelling_the_caller_does_not_stop_the_work(one: Opened) -> None:
    future = one.writer.submit(adding("a"))
    future.cancel()
    await one.writer.submit(adding("b"))
    assert one.words() == ["a", "b"]


async def test_the_second_owner_fences_the_first(tmp_path: Path) -> None:
    epochs = Epochs()
    first = await opened(tmp_path / "a.sqlite", epochs, SqliteEngine(lock=False))
    await first.writer.submit(adding("before"))
    second = await opened(tmp_path / "a.sqlite", epochs, SqliteEngine(lock=False))
    (late,) = await outcomes(first.writer.submit(adding("late")))
    assert isinstance(late, Fenced)
    assert [type(doubt) for doubt in first.doubts] == [Fenced]
    await second.writer.submit(adding("after"))
    assert second.words() == ["after", "before"]
    await first.close()
    await second.close()


async def test_the_lock_file_keeps_a_second_process_out(tmp_path: Path) -> None:
    one = await opened(tmp_path / "a.sqlite", Epochs())
    with pytest.raises(SqlError, match="held"):
        SqliteEngine().open(tmp_path / "a.sqlite")
    await one.close()
    (await opened(tmp_path / "a.sqlite", Epochs())).database.close()


@pytest.mark.parametrize(("name", "there"), [("test.commit.before", False), ("test.commit.after", True)])
async def test_in_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, there: bool) -> None:
    one = await opened(tmp_path / "a.sqlite", Epochs())
    monkeypatch.setattr(group_module, "FAILPOINTS", failpoints.Failpoints(f"{name}=error"))
    waiting = [one.writer.submit(adding("a")), one.writer.submit(adding("b"))]
    found = await outcomes(*waiting)
    assert [type(error) for error in found] == [InDoubt, InDoubt]
    assert len(one.doubts) == 1
    (later,) = await outcomes(one.writer.submit(adding("c")))
    assert isinstance(later, InDoubt)
    assert "committed" not in one.log
    await one.close()
    monkeypatch.undo()
    again = await opened(tmp_path / "a.sqlite", Epochs())
    assert again.words() == (["a", "b"] if there else [])
    await again.close()


async def test_a_full_disk_refuses_the_group_and_the_next_goes_on(one: Opened) -> None:
    one.database.writer.script("PRAGMA max_page_count=8")

    def big(context: Words) -> None:
        context.marks += 1
        for n in range(200):
            context.connection.run("INSERT INTO word (word) VALUES (?)", (f"{n}" * 2000,))

    (full,) = await outcomes(one.writer.submit(big))
    assert isinstance(full, Full)
    assert one.doubts == []
    assert await one.writer.submit(adding("small")) == "small"
    assert one.words() == ["small"]


async def test_a_bug_in_a_unit_is_its_own(one: Opened) -> None:
    def broken(context: Words) -> None:
        context.add("x")
        raise ZeroDivisionError

    found = await outcomes(one.writer.submit(broken), one.writer.submit(adding("y")))
    assert isinstance(found[0], ZeroDivisionError)
    assert found[1] == "y"
    assert one.words() == ["y"]


async def test_between_groups(one: Opened) -> None:
    await one.writer.submit(adding("a"))
    await one.writer.between(lambda: one.database.checkpoint(restart=True))
    await one.writer.submit(adding("b"))
    assert one.words() == ["a", "b"]


async def test_memory_that_cannot_be_read_again_is_doubt(one: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server went: neither the rollback nor what follows it can be had. Nobody may wait for ever."""
    def gone(self: Words) -> None:
        raise SqlError("gone")

    monkeypatch.setattr(Words, "abandon", gone)
    monkeypatch.setattr(Words, "flush", gone)
    found = await asyncio.wait_for(outcomes(one.writer.submit(adding("a")), one.writer.submit(adding("b"))), 5)
    assert [type(error) for error in found] == [InDoubt, InDoubt]
    assert [type(doubt) for doubt in one.doubts] == [InDoubt]


async def test_who_waits_for_a_checkpoint_may_go(one: Opened) -> None:
    waiting = asyncio.create_task(one.writer.between(lambda: time.sleep(0.1)))
    await asyncio.sleep(0.03)
    waiting.cancel()
    await asyncio.sleep(0.15)
    assert await asyncio.wait_for(one.writer.submit(adding("after")), 2) == "after"


async def test_what_cannot_be_published_is_durable_and_ends_the_writer(
    one: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Words) -> None:
        raise ValueError("a listener")

    monkeypatch.setattr(Words, "committed", fail)
    assert await asyncio.wait_for(one.writer.submit(adding("a")), 2) == "a"
    assert one.words() == ["a"]
    assert [type(doubt) for doubt in one.doubts] == [InDoubt]
    with pytest.raises(InDoubt):
        await asyncio.wait_for(one.writer.submit(adding("b")), 2)
