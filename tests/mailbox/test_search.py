"""What a search finds: against a plain reading of the messages, and by which index."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atoll.mailbox import Access, Flag, NewMessage, Store, UidSet
from atoll.mailbox.query import (
    All,
    And,
    Body,
    Field,
    HasFlag,
    HasKeyword,
    Header,
    Ids,
    ModSeq,
    Not,
    Or,
    Query,
    Received,
    Sent,
    Size,
    Text,
    Uids,
)
from atoll.mailbox.search import run
from atoll.mailbox.search.index import expression
from atoll.mailbox.search.run import BY_UNSEEN, UNSEEN
from tests.postgres import on_postgres, plan_on_postgres

from .kit import ALICES, T0, content, new

WORDS = ("lazy", "fox", "foxes", "dog", "Köln", "report", "re", "x1")


async def test_unseen_is_answered_from_its_index(store: Store, alice: Access) -> None:
    text = f"SELECT i.uid FROM item i WHERE {BY_UNSEEN} AND {UNSEEN} ORDER BY i.fid, i.uid LIMIT ?"
    if on_postgres():  # with rows to choose from: in an empty table nothing is better than reading it
        plan: object = plan_on_postgres(store.database("db1").database, text, (1, 1, 1, 2, 100))
    else:
        plan = store.database("db1").reader.all(f"EXPLAIN QUERY PLAN {text}", (1, 1, 1, 2, 100))
    assert "item_unseen" in str(plan)
    inbox = alice.folder("INBOX")
    await alice.append(inbox, [new() for _ in range(5)])
    await alice.append(alice.folder("Archive"), [new()])
    await alice.flags(inbox, UidSet.of([2, 4]), "+", Flag.SEEN)
    assert await alice.search(inbox, Not(HasFlag(Flag.SEEN))) == [1, 3, 5]


@pytest.mark.parametrize(("query", "wanted"), [
    (All(), [1, 2, 3]),
    (Text("report"), [1]), (Text("rep"), [1]), (Text("eport"), []), (Text("REPORT"), [1]),
    (Body("report"), []), (Body("fox"), [1, 2]), (Body("lazy fo"), [2]), (Body("fox lazy"), []),
    (Text("alice@example.test"), [1, 2, 3]), (Text("tue, 14 nov"), [1, 2, 3]),
    (Field("subject", "EPOR"), [1]), (Field("subject", "grüsse"), [3]), (Field("subject", "grüße"), [3]),
    (Field("from", "lice@exam"), [1, 2, 3]), (Field("cc", ""), []), (Field("to", ""), [1, 2, 3]),
    (Header("Message-ID", "Q1@"), [1]), (Header("message-id", ""), [1]), (Header("DATE", "nov 2023"), [1, 2, 3]),
    (Header("X-None", ""), []),
    (And((Text("fox"), Not(Field("subject", "report")))), [2]),
    (Or((Text("report"), Uids(UidSet.of([3])))), [1, 3]),
    (Received(T0, None), [1, 2, 3]), (Received(None, T0), []),
    (Sent(1_699_920_000_000, 1_700_006_400_000), [1, 2, 3]), (Sent(1_700_006_400_000, None), []),
    (Size(larger=10_000), [2]), (Size(smaller=10_000), [1, 3]),
    (HasKeyword("WORK"), [3]), (HasFlag(Flag.FLAGGED), [2]), (Not(HasKeyword("work")), [1, 2]),
    (Ids("email", "nonsense"), []), (Ids("thread", "T" + "f" * 16), []),
    (Body("!!"), [3]), (Text("()"), []),
])
async def test_each_kind(alice: Access, query: Query, wanted: list[int]) -> None:
    inbox = alice.folder("INBOX")
    await alice.append(inbox, [new("Report of the year", "The quick fox", message_id="<q1@x>"),
                               new("y", "a lazy fox" + " and more" * 2000), new("Grüße", "nothing!!")])
    await alice.flags(inbox, UidSet.of([3]), "+", Flag(0), frozenset({"work"}))
    await alice.flags(inbox, UidSet.of([2]), "+", Flag.FLAGGED)
    assert await alice.search(inbox, query) == wanted


async def test_ids_and_numbers(alice: Access) -> None:
    inbox = alice.folder("INBOX")
    await alice.append(inbox, [new(), new()])
    first, second = alice.rows(inbox, 1, 2, 0)  # type: ignore[arg-type]
    assert await alice.search(inbox, Ids("email", alice.email_id(second))) == [2]
    assert await alice.search(inbox, Ids("thread", alice.thread_id(first))) == [1]
    assert await alice.search(inbox, Ids("thread", f"T{first.conv:x}-another")) == []
    assert await alice.search(inbox, Ids("email", f"M{first.id:x}-another")) == []
    assert await alice.search(inbox, ModSeq(second.cn)) == [2]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bodies=st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=5), min_size=1, max_size=6),
       word=st.sampled_from(WORDS), cut=st.integers(1, 4))
async def test_recall_is_that_of_a_plain_scan_for_word_beginnings(store: Store, bodies: list[list[str]], word: str,
                                                                  cut: int) -> None:
    from .kit import ALICE
    alice = await store.open(ALICES, ALICE)
    folder = await alice.create(f"F{alice.folder('INBOX').uidv}-{len(alice.folders())}")
    await alice.append(folder, [NewMessage(content("s", " ".join(body)), T0) for body in bodies])
    asked = word[:cut]
    wanted = [uid for uid, body in enumerate(bodies, 1)
              if re.search(rf"\b{asked}", " ".join(body), re.IGNORECASE)]
    assert await alice.search(folder, Body(asked)) == wanted


async def test_a_moved_copied_or_recovered_message_is_found(store: Store, alice: Access) -> None:
    inbox, archive = alice.folder("INBOX"), alice.folder("Archive")
    await alice.append(inbox, [new(body="needle one"), new(body="needle two")])
    assert await alice.search(inbox, Body("needle")) == [1, 2]
    indexed = store.feed(store.database("db1")).indexed
    await alice.move(inbox, UidSet.of([1]), archive)
    await alice.copy(inbox, UidSet.of([2]), archive)
    await alice.flags(inbox, UidSet.of([2]), "+", Flag.DELETED)
    await alice.expunge(inbox, None)
    assert await alice.search(archive, Body("needle")) == [1, 2]
    assert await alice.search(inbox, Body("needle")) == []
    await alice.recover([one.id for one in alice.recoverable()])
    assert await alice.search(inbox, Body("two")) == [3]
    assert store.feed(store.database("db1")).indexed == indexed  # the content is in the index once


@pytest.mark.parametrize(("text", "wanted"), [
    ("foo", '"foo" *'), ('say "hi"', '"say  hi "'), ("foo ", '"foo "'), ("...", None), ("", None),
    ("a.", '"a."'), ("AND OR NOT", '"AND OR NOT" *')])
def test_expressions_cannot_be_broken_out_of(text: str, wanted: str | None) -> None:
    assert expression(text) == wanted


_LEAVES = st.sampled_from([
    Text("fox"), Text("dog"), Body("report"), Body("laz"), Body("none of them"), Field("subject", "s1"),
    Field("from", "alice"), Field("cc", ""), HasFlag(Flag.SEEN), HasKeyword("work"), Uids(UidSet.of_ranges([(5, 30)])),
    Size(larger=400), Sent(1_699_920_000_000, 1_700_006_400_000), Header("subject", "s2"), Header("message-id", "m3"),
])
_QUERIES = st.recursive(_LEAVES, lambda inner: st.one_of(
    st.lists(inner, min_size=1, max_size=3).map(lambda terms: And(tuple(terms))),
    st.lists(inner, min_size=1, max_size=3).map(lambda terms: Or(tuple(terms))), inner.map(Not)), max_leaves=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=_QUERIES)
async def test_looked_up_by_content_or_scanned_the_answer_is_one(store: Store, monkeypatch: pytest.MonkeyPatch,
                                                                query: Query) -> None:
    from .kit import ALICE
    alice = await store.open(ALICES, ALICE)
    inbox = alice.folder("INBOX")
    if not inbox.total:
        await alice.append(inbox, [new(f"s{i % 7}", f"{WORDS[i % 8]} {WORDS[i % 3]} {'x' * i * 20}",
                                       message_id=f"<m{i}@x>") for i in range(40)])
        await alice.flags(inbox, UidSet.of(range(1, 40, 3)), "+", Flag.SEEN, frozenset({"work"}))
        await alice.copy(inbox, UidSet.of(range(1, 30, 4)), inbox)  # several items of one content
        await alice.copy(inbox, UidSet.of(range(2, 30, 4)), alice.folder("Archive"))
    found = []
    for few, slice_rows in ((0, 7), (1 << 40, 1000)):
        monkeypatch.setattr(run, "FEW", few)
        monkeypatch.setattr(run, "LOOKED_UP", slice_rows)
        found.append(await alice.search(inbox, query))
    assert found[0] == found[1]


async def test_a_rare_word_costs_its_hits_not_the_folder(store: Store, alice: Access) -> None:
    inbox = alice.folder("INBOX")
    await alice.append(inbox, [new(body="needle" if i == 7 else f"hay{i}") for i in range(60)])
    assert await alice.search(inbox, Body("needle")) == [8]
    database = store.database("db1")
    plan = run.Plan(database, store.feed(database), database.view(ALICES), inbox.fid, None)
    await plan.prepare(Text("needle"))
    contents = plan.bound(And((Text("needle"), Not(HasFlag(Flag.SEEN)))))
    assert contents is not None
    assert [len(rows) for rows in plan._look_up("i.uid", [], [], contents)] == [1]
    assert plan.bound(Or((Text("needle"), HasFlag(Flag.SEEN)))) is None
    text = "SELECT i.uid FROM item i WHERE i.blob IN (?, ?) AND +i.fid = ? ORDER BY i.uid"
    if not on_postgres():  # a planner with statistics may rightly read all of so small a table
        assert "item_blob" in str(database.reader.all(f"EXPLAIN QUERY PLAN {text}", (1, 2, 1)))
