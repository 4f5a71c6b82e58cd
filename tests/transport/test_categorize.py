"""The categorizer by itself: who is delivered to, who is refused, how groups are expanded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.directory.client.model import Addressee, GroupInfo, Quota, RecipientInfo, Who
from atoll.formats.smtp import replies
from atoll.transport.categorize import MAX_EXPANDED, Known, Plan, categorize
from atoll.transport.envelope import Envelope, Recipient

ALICE, BOB, TEAM, ALL, FRIEND = "alice@x.test", "bob@x.test", "team@x.test", "all@x.test", "friend@far.example"


def mailbox(address: str) -> RecipientInfo:
    ident = address.encode().ljust(16, b".")[:16]
    return RecipientInfo(address, "mailbox", ident, "db1", "mailbox-1", "here", 1, Quota(), "", ident, "")


def group(address: str, *members: str, who: Who = "anyone", senders: tuple[str, ...] = ()) -> GroupInfo:
    return GroupInfo(address.encode(), address, "", who, members, ("owner@x.test",), senders)


def plan(recipients: dict[str, Addressee | None], *to: str, sender: str = "a@far.example", user: bytes = b"",
         sends: bool = True) -> Plan:
    envelope = Envelope(b"1" * 16, sender, tuple(Recipient(one) for one in to), 1, user=user)
    known = Known(recipients, {"x.test": True, "far.example": False})
    found = categorize(envelope, [(one, one) for one in to], known, sends=sends)
    assert found.complete
    return found


def test_a_group_stands_for_its_members_once_however_they_are_named() -> None:
    found = plan({TEAM: group(TEAM, ALICE, BOB), ALL: group(ALL, TEAM, ALICE), ALICE: mailbox(ALICE),
                  BOB: mailbox(BOB)}, ALL, ALICE, TEAM)
    assert found.deliver.keys() == {ALICE, BOB}
    assert found.over == {ALL: replies.EXPANDED, TEAM: replies.EXPANDED}
    assert found.origins in ({BOB: ALL}, {BOB: TEAM})


def test_groups_that_hold_one_another_end() -> None:
    found = plan({TEAM: group(TEAM, ALL, ALICE), ALL: group(ALL, TEAM), ALICE: mailbox(ALICE)}, TEAM)
    assert (found.deliver.keys(), found.over) == ({ALICE}, {TEAM: replies.EXPANDED, ALL: replies.EXPANDED})


@pytest.mark.parametrize(("who", "sender", "user", "allowed"), [
    ("anyone", "a@far.example", b"", True), ("anyone", "", b"", False),
    ("organization", "a@far.example", b"", False), ("organization", BOB, b"", False),
    ("organization", BOB, b"bob", True),
    ("members", BOB, b"bob", False), ("members", ALICE, b"alice", True), ("members", ALICE, b"", False),
    ("members", "Owner@x.test", b"owner", True),
    ("listed", ALICE, b"alice", False), ("listed", BOB, b"bob", True),
])
def test_who_may_send_to_a_group(who: Who, sender: str, user: bytes, allowed: bool) -> None:
    found = plan({TEAM: group(TEAM, ALICE, who=who, senders=(BOB,)), ALICE: mailbox(ALICE)}, TEAM,
                 sender=sender, user=user)
    assert found.over == {TEAM: replies.EXPANDED if allowed else replies.GROUP_CLOSED}
    assert bool(found.deliver) == allowed


def test_a_stranger_s_mail_does_not_leave_by_way_of_us_nor_of_a_group() -> None:
    known: dict[str, Addressee | None] = {FRIEND: None, TEAM: group(TEAM, FRIEND)}
    assert plan(known, FRIEND).over == {FRIEND: replies.NO_MAILBOX}
    assert plan(known, FRIEND, sender=ALICE, user=b"alice").leave == {FRIEND: "far.example"}
    assert plan(known, FRIEND, sender=ALICE, user=b"alice", sends=False).over == {FRIEND: replies.NO_MAILBOX}
    assert plan(known, TEAM).leave == {FRIEND: "far.example"}, "who put a friend into the group wants that"


def test_what_has_to_be_asked_is_said_and_a_directory_that_is_away_makes_it_wait() -> None:
    envelope = Envelope(b"1" * 16, ALICE, (Recipient(TEAM),), 1, user=b"alice")
    known = Known()
    assert categorize(envelope, [(TEAM, TEAM)], known, sends=True).ask_recipients == [TEAM]
    known.recipients[TEAM] = group(TEAM, ALICE, FRIEND)
    assert sorted(categorize(envelope, [(TEAM, TEAM)], known, sends=True).ask_recipients) == [ALICE, FRIEND]
    known.away.add(ALICE)
    known.recipients[FRIEND] = None
    asked = categorize(envelope, [(TEAM, TEAM)], known, sends=True)
    assert (asked.ask_domains, asked.over[ALICE]) == (["far.example"], replies.TRY_LATER)
    known.away.add("far.example")
    assert categorize(envelope, [(TEAM, TEAM)], known, sends=True).over[FRIEND] == replies.TRY_LATER


def test_a_message_does_not_become_more_than_ten_thousand() -> None:
    many = [f"u{number}@x.test" for number in range(MAX_EXPANDED)]
    known: dict[str, Addressee | None] = {one: mailbox(one) for one in many}
    found = plan(known | {TEAM: group(TEAM, *many), ALL: group(ALL, *many[1:])}, ALL, TEAM)
    assert replies.TOO_MANY_MEMBERS in found.over.values()
    assert len(found.deliver) <= MAX_EXPANDED


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.lists(st.sampled_from("abcdefghuvwxyz"), max_size=6)),
       st.lists(st.sampled_from("abcdefghuvwxyz"), min_size=1, max_size=4, unique=True))
def test_everybody_named_through_any_groups_is_planned_once(groups: dict[str, list[str]], to: list[str]) -> None:
    address = {letter: f"{letter}@x.test" for letter in "abcdefghuvwxyz"}
    known: dict[str, Addressee | None] = {address[one]: mailbox(address[one]) for one in address if one not in groups}
    known |= {address[one]: group(address[one], *(address[each] for each in members))
              for one, members in groups.items()}
    found = plan(known, *(address[one] for one in to))
    reached, todo = set(), list(to)
    while todo:
        one = todo.pop()
        if one not in reached:
            reached.add(one)
            todo += groups.get(one, [])
    assert found.deliver.keys() == {address[one] for one in reached if one not in groups}
    assert found.over.keys() == {address[one] for one in reached if one in groups}
