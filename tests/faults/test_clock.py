"""The wall clock jumps: numbers only grow, nothing waits for ever, nothing is taken for old or new by mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from atoll.mailbox import Delivered
from atoll.sql.sqlite import SqliteEngine
from atoll.transport.envelope import Envelope, Recipient
from atoll.transport.queue import Queue, Waiting
from tests.mailbox.kit import ALICE, ALICES, Directory, StillClock, delivery, mounted

HOUR, DAY = 3_600_000, 86_400_000
JUMPS = {"an hour ahead": HOUR, "an hour back": -HOUR, "a day back": -DAY, "ten years ahead": 3652 * DAY,
         "before 1970": -60 * 365 * DAY}


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
async def test_numbers_of_a_mailbox_only_grow(tmp_path: Path, jump: int) -> None:
    clock = StillClock()
    async with mounted(tmp_path, clock=clock) as store:
        alice = await store.open(ALICES, ALICE)
        validity, uids, changes = [], [], []
        for step in (0, jump, -jump):
            clock.ms += step
            (done,) = await store.deliver([delivery(key=b"%d" % len(uids))])
            assert isinstance(done, Delivered)
            assert not done.duplicate
            uids.append(done.uid)
            folder = await alice.create("Projects")
            validity.append(folder.uidv)
            changes.append(alice.folder("INBOX").cn_high)
            await alice.delete("Projects")
        for numbers in (validity, uids, changes):
            assert numbers == sorted(set(numbers))
        clock.ms += jump if abs(jump) <= DAY else 0
        (again,) = await store.deliver([delivery(key=b"1")])
        assert isinstance(again, Delivered)
        assert again.duplicate


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
async def test_what_is_queued_does_not_wait_for_the_clock(tmp_path: Path, jump: int) -> None:
    clock = StillClock()
    queue = await Queue.open(SqliteEngine(), tmp_path / "queue.sqlite", Directory(), clock, process="test",
                             on_doubt=lambda error: None)
    await queue.put(Envelope(b"1" * 16, "a@x", (Recipient("b@y"),), clock.ms), b"x", [Waiting("b@y", "y", "later")],
                    None)
    assert queue.due("y") == []
    clock.ms += jump
    if jump == -HOUR:  # its time lies within the longest wait: at most so long it may wait
        clock.ms += HOUR + 2000
    assert [job.address for job in queue.due("y")] == ["b@y"]
    await queue.close()
