"""IMAP: CONDSTORE and QRESYNC [RFC 7162], [RFC 9051 §6.3.1]."""

from __future__ import annotations

import pytest

from tests.conformance.conftest import World
from tests.conformance.imap import Imap, Reply, numbers, pairs

pytestmark = pytest.mark.island

MAIL = b"Subject: x\r\n\r\nbody\r\n"


def modseq(client: Imap, uid: int) -> int:
    return int(client.ok(f"UID FETCH {uid} MODSEQ").by_uid()[uid]["MODSEQ"][0])


def vanished(reply: Reply, *, earlier: bool) -> set[int]:
    """Uids of VANISHED answers of that kind; the other kind is a fault."""
    found: set[int] = set()
    for one in reply.all("VANISHED"):
        is_earlier = one.values[0] == ["EARLIER"]
        assert is_earlier == earlier, one
        found |= set(numbers(one.values[-1]))
    return found


@pytest.fixture
def stored(world: World, box: str) -> tuple[Imap, Imap]:
    """Two sessions, ten messages; the second has QRESYNC."""
    one, other = world.alice(), world.alice()
    for _ in range(10):
        one.append(box, MAIL)
    one.select(box)
    other.ok("ENABLE QRESYNC")
    return one, other


def highest(reply: Reply) -> int:
    return int(reply.code_of("HIGHESTMODSEQ"))


def test_3_1_2_highestmodseq_at_select(stored: tuple[Imap, Imap], box: str) -> None:
    one, _ = stored
    top = highest(one.select(box))
    found = one.ok("FETCH 1:* MODSEQ").fetched()
    sequence = [int(items["MODSEQ"][0]) for items in found.values()]
    assert all(0 < number <= top for number in sequence)
    assert len(set(sequence)) == len(sequence)
    assert max(sequence) <= top
    assert int(one.ok(f"STATUS {box} (HIGHESTMODSEQ)").one("STATUS").values[1][1]) == top


@pytest.mark.parametrize("enabling", ["SELECT {box} (CONDSTORE)", "ENABLE CONDSTORE", "STATUS {box} (HIGHESTMODSEQ)",
                                      "FETCH 1 (MODSEQ)", "FETCH 1 (FLAGS) (CHANGEDSINCE 1)", "SEARCH MODSEQ 1",
                                      "STORE 1 (UNCHANGEDSINCE 1) +FLAGS (x)", "ENABLE QRESYNC"])
def test_3_1_enabling_commands(world: World, stored: tuple[Imap, Imap], box: str, enabling: str) -> None:
    """From then on every FETCH of flags that is told carries a MODSEQ; the mailbox's highest is told at once."""
    one, _ = stored
    client = world.alice()
    client.select(box)
    one.ok("STORE 2 +FLAGS (\\Flagged)")
    assert "MODSEQ" not in client.ok("NOOP").fetched()[2]
    assert highest(client.cmd(enabling.format(box=box))) > 0
    assert not client.ok("FETCH 1 (MODSEQ)").has_code("HIGHESTMODSEQ")
    one.ok("STORE 2 -FLAGS (\\Flagged)")
    assert "MODSEQ" in client.ok("NOOP").fetched()[2]
    assert "MODSEQ" in client.ok("STORE 3 +FLAGS (\\Seen)").fetched()[3]


def test_3_1_3_store_changes_modseq(stored: tuple[Imap, Imap]) -> None:
    one, _ = stored
    before, other = modseq(one, 3), modseq(one, 4)
    one.ok("UID STORE 3 +FLAGS (\\Seen)")
    assert modseq(one, 3) > before
    assert modseq(one, 4) == other
    same = modseq(one, 3)
    one.ok("UID STORE 3 +FLAGS (\\Seen)")
    assert modseq(one, 3) == same


def test_3_1_3_unchangedsince(stored: tuple[Imap, Imap]) -> None:
    one, other = stored
    top = max(modseq(one, uid) for uid in (5, 6, 7))
    one.ok("UID STORE 6 +FLAGS (\\Answered)")
    reply = one.ok(f"UID STORE 5:7 (UNCHANGEDSINCE {top}) +FLAGS.SILENT (\\Flagged)")
    assert numbers(reply.code_of("MODIFIED")) == [6]
    told = reply.fetched()
    assert {5, 7} <= set(told)  # [RFC 7162 §3.1.3] MODSEQ is told even when silent
    assert all("MODSEQ" in told[number] for number in (5, 7))
    assert "\\Flagged" in one.flags(5)
    assert "\\Flagged" not in one.flags(6)
    reply = one.ok(f"STORE 6 (UNCHANGEDSINCE {top}) -FLAGS (\\Answered)")
    assert reply.code_of("MODIFIED") == "6"
    assert "\\Answered" in one.flags(6)
    assert one.ok("UID STORE 8 (UNCHANGEDSINCE 0) +FLAGS (\\Seen)").code_of("MODIFIED") == "8"
    assert other


def test_3_1_4_changedsince(stored: tuple[Imap, Imap], box: str) -> None:
    one, _ = stored
    top = highest(one.select(box))
    one.ok("STORE 2,9 +FLAGS.SILENT (\\Seen)")
    found = one.ok(f"FETCH 1:* (FLAGS) (CHANGEDSINCE {top})").fetched()
    assert found.keys() == {2, 9}
    assert all(int(items["MODSEQ"][0]) > top for items in found.values())
    assert one.ok(f"UID FETCH 3:* (FLAGS) (CHANGEDSINCE {top})").by_uid().keys() == {9}
    assert one.ok("UID FETCH 1:* FLAGS (CHANGEDSINCE 0)").by_uid().keys() == set(range(1, 11))


def test_3_1_4_changedsince_names_messages(stored: tuple[Imap, Imap]) -> None:
    """A number older than all that is known of changes: still of the asked messages only."""
    one, _ = stored
    one.ok("FETCH 1 (MODSEQ)")
    assert one.ok("FETCH 3:4 (FLAGS) (CHANGEDSINCE 1)").fetched().keys() == {3, 4}
    assert one.ok("UID FETCH 2,9:12 (FLAGS) (CHANGEDSINCE 1)").by_uid().keys() == {2, 9, 10}
    assert "\\Seen" in one.ok("FETCH 5 (BODY[TEXT]) (CHANGEDSINCE 1)").fetched()[5]["FLAGS"]


def test_3_1_5_search_modseq(stored: tuple[Imap, Imap], box: str) -> None:
    one, _ = stored
    top = highest(one.select(box))
    one.ok("STORE 5 +FLAGS.SILENT (\\Seen)")
    one.ok("STORE 4 +FLAGS.SILENT (\\Seen)")
    found = one.ok(f"SEARCH MODSEQ {top + 1}").one("SEARCH").values
    assert found[:2] == ["4", "5"]
    assert found[2] == ["MODSEQ", str(max(modseq(one, 4), modseq(one, 5)))]
    assert one.ok(f'SEARCH MODSEQ "/flags/\\\\seen" all {top + 1}').search()[:2] == [4, 5]
    assert one.ok(f"SEARCH MODSEQ {top + 10**6}").one("SEARCH").values == []
    result = one.ok(f"SEARCH RETURN (ALL COUNT) MODSEQ {top + 1}").esearch()
    assert (result["COUNT"], result["MODSEQ"]) == ("2", str(max(modseq(one, 4), modseq(one, 5))))
    # [RFC 4731 §3.2] of what is told, where that is the first and the last only
    for word, those in (("MIN", [4]), ("MAX", [5]), ("MIN MAX", [4, 5]), ("MIN COUNT", [4, 5])):
        result = one.ok(f"SEARCH RETURN ({word}) MODSEQ {top + 1}").esearch()
        assert result["MODSEQ"] == str(max(modseq(one, number) for number in those))


def test_3_1_6_sort_tells_the_highest_modseq(stored: tuple[Imap, Imap], box: str) -> None:
    one, _ = stored
    top = highest(one.select(box))
    one.ok("STORE 2 +FLAGS.SILENT (\\Seen)")
    one.ok("STORE 4 +FLAGS.SILENT (\\Seen)")
    last = str(modseq(one, 4))
    for key in (f"MODSEQ {top + 1}", f'OR MODSEQ "/flags/\\\\seen" all {top + 1} DRAFT'):
        assert one.ok(f"SORT (REVERSE ARRIVAL) UTF-8 {key}").one("SORT").values == ["4", "2", ["MODSEQ", last]]
        assert one.ok(f"UID SORT RETURN (COUNT) (ARRIVAL) UTF-8 {key}").esearch()["MODSEQ"] == last
    assert one.ok(f"SORT (ARRIVAL) UTF-8 MODSEQ {top + 10**6}").one("SORT").values == []


def test_3_2_5_select_qresync(stored: tuple[Imap, Imap], box: str) -> None:
    one, other = stored
    selected = one.select(box)
    validity, top = selected.code_of("UIDVALIDITY"), highest(selected)
    one.ok("STORE 2,4:5 +FLAGS.SILENT (\\Deleted)")
    one.ok("EXPUNGE")
    one.ok("UID STORE 7 +FLAGS (\\Flagged)")
    one.append(box, MAIL)
    reply = other.select(box, f" (QRESYNC ({validity} {top}))")
    assert vanished(reply, earlier=True) >= {2, 4, 5}
    assert not vanished(reply, earlier=True) & {1, 3, 6, 7, 8, 9, 10, 11}
    changed = reply.by_uid()
    assert set(changed) >= {7}
    assert set(changed) <= {7, 11}
    assert "\\Flagged" in changed[7]["FLAGS"]
    assert "MODSEQ" in changed[7]
    kinds = [one.kind for one in reply.untagged]
    assert kinds.index("VANISHED") < kinds.index("FETCH")
    again = other.select(box, f" (QRESYNC ({validity} {highest(reply)}))")
    assert vanished(again, earlier=True) == set()
    assert again.all("FETCH") == []


def test_3_2_5_known_uids(stored: tuple[Imap, Imap], box: str) -> None:
    one, other = stored
    selected = one.select(box)
    validity, top = selected.code_of("UIDVALIDITY"), highest(selected)
    one.ok("STORE 2,4:5 +FLAGS.SILENT (\\Deleted)")
    one.ok("EXPUNGE")
    one.ok("UID STORE 1,7 +FLAGS (\\Flagged)")
    reply = other.select(box, f" (QRESYNC ({validity} {top} 1:4))")
    assert vanished(reply, earlier=True) == {2, 4}
    assert set(reply.by_uid()) == {1}


def test_3_2_5_2_sequence_match(stored: tuple[Imap, Imap], box: str) -> None:
    one, other = stored
    selected = one.select(box)
    validity = selected.code_of("UIDVALIDITY")
    one.ok("STORE 8 +FLAGS.SILENT (\\Deleted)")
    one.ok("EXPUNGE")
    reply = other.select(box, f" (QRESYNC ({validity} 1 1:10 (1,5,7 1,5,7)))")
    assert vanished(reply, earlier=True) == {8}
    reply = other.select(box, f" (QRESYNC ({validity} 1 (1:3 1:3)))")
    assert 8 in vanished(reply, earlier=True)
    reply = other.select(box, f" (QRESYNC ({validity} 1 1:10 (2,9 2,10)))")  # position 9 is uid 10: matches
    assert vanished(reply, earlier=True) <= {8}


def test_3_2_5_other_uidvalidity_and_syntax(stored: tuple[Imap, Imap], box: str) -> None:
    one, other = stored
    reply = other.select(box, " (QRESYNC (1 1))")
    assert reply.all("VANISHED") == []
    assert reply.all("FETCH") == []
    one.bad(f"SELECT {box} (QRESYNC (1 1))")  # not enabled
    for wrong in ("QRESYNC", "QRESYNC ()", "QRESYNC (1)", "QRESYNC (0 1)", "QRESYNC (1 1 (1 1)",
                  "QRESYNC (1 x)"):
        assert other.cmd(f"SELECT {box} ({wrong})").status == "BAD", wrong


def test_3_2_6_uid_fetch_vanished(stored: tuple[Imap, Imap], box: str) -> None:
    one, other = stored
    top = highest(other.select(box))
    one.ok("STORE 3,6 +FLAGS.SILENT (\\Deleted)")
    one.ok("EXPUNGE")
    one.ok("UID STORE 9 +FLAGS (\\Seen)")
    assert vanished(other.ok("NOOP"), earlier=False) == {3, 6}
    reply = other.ok(f"UID FETCH 1:5,9 (FLAGS) (CHANGEDSINCE {top} VANISHED)")
    assert vanished(reply, earlier=True) == {3}
    assert set(reply.by_uid()) == {9}
    other.bad("UID FETCH 1:* (FLAGS) (VANISHED)")
    other.bad(f"FETCH 1:* (FLAGS) (CHANGEDSINCE {top} VANISHED)")
    one.bad(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {top} VANISHED)")  # without ENABLE QRESYNC


def test_3_2_7_vanished_instead_of_expunge(stored: tuple[Imap, Imap], box: str) -> None:
    _, other = stored
    other.select(box)
    other.ok("STORE 1,3 +FLAGS.SILENT (\\Deleted)")
    reply = other.ok("EXPUNGE")
    assert reply.all("EXPUNGE") == []
    assert vanished(reply, earlier=False) == {1, 3}
    assert int(reply.code_of("HIGHESTMODSEQ")) >= max(modseq(other, uid) for uid in (2, 4, 5))
    other.ok("UID STORE 5 +FLAGS.SILENT (\\Deleted)")
    assert vanished(other.ok("UID EXPUNGE 5"), earlier=False) == {5}
    other.ok("UID STORE 6 +FLAGS.SILENT (\\Deleted)")
    assert int(other.ok("CLOSE").code_of("HIGHESTMODSEQ")) > 0


def test_3_2_9_vanished_in_idle_and_move(stored: tuple[Imap, Imap], box: str) -> None:
    one, other = stored
    other.select(box)
    tag = other.start("IDLE")
    other.plus()
    one.ok("STORE 10 +FLAGS.SILENT (\\Deleted)")
    fetch = other.told(1)[0]
    items = pairs(fetch.values[0])
    assert items["UID"] == "10"  # [RFC 7162 §3.2.4] UID with every FETCH told
    assert "MODSEQ" in items
    one.ok("EXPUNGE")
    assert other.told(1)[0].values == ["10"]
    other.wire.send(b"DONE\r\n")
    other.until(tag)
    other.ok(f"CREATE {box}.to")
    reply = other.ok(f"UID MOVE 1:2 {box}.to")
    assert vanished(reply, earlier=False) == {1, 2}
    assert reply.has_code("COPYUID")


def test_a_client_that_syncs_by_qresync_only(world: World, box: str) -> None:
    """A cache that is brought up to date by SELECT (QRESYNC ...) holds what the server holds, whatever happened."""
    import random

    rng = random.Random(7162)
    writer, reader = world.alice(), world.alice()
    reader.ok("ENABLE QRESYNC")
    writer.ok(f"SELECT {box}")
    cache: dict[int, frozenset[str]] = {}
    validity, top = "", 0
    for _ in range(25):
        for _ in range(rng.randrange(8)):
            uids = writer.uids()
            choice = rng.random()
            if choice < 0.4 or not uids:
                writer.append(box, MAIL, rng.choice(["", "\\Seen", "kw"]))
            elif choice < 0.7:
                writer.ok(f"UID STORE {rng.choice(uids)} {rng.choice(['+', '-', ''])}FLAGS (\\Flagged)")
            elif choice < 0.9:
                writer.ok(f"UID STORE {rng.choice(uids)} +FLAGS.SILENT (\\Deleted)")
                writer.ok("EXPUNGE")
            else:
                writer.ok(f"UID COPY {rng.choice(uids)} {box}")
        known = ",".join(map(str, sorted(cache)))
        if validity:
            reply = reader.select(box, f" (QRESYNC ({validity} {top}{' ' + known if known else ''}))")
        else:
            reply = reader.select(box)
        for uid in vanished(reply, earlier=True):
            cache.pop(uid, None)
        cache |= {uid: frozenset(items["FLAGS"]) - {"\\Recent"} for uid, items in reply.by_uid().items()}
        last = max(cache, default=0)
        new = reader.ok(f"UID FETCH {last + 1}:* FLAGS").by_uid()
        cache |= {uid: frozenset(items["FLAGS"]) - {"\\Recent"} for uid, items in new.items()}
        validity, top = reply.code_of("UIDVALIDITY"), highest(reply)
        truth = {uid: frozenset(items["FLAGS"]) - {"\\Recent"}
                 for uid, items in writer.ok("UID FETCH 1:* FLAGS").by_uid().items()}
        assert cache == truth
