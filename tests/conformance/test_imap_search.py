"""IMAP: SEARCH, SORT, THREAD [RFC 9051 §6.4.4], [RFC 3501 §6.4.4], [RFC 4731], [RFC 5182], [RFC 5256], [RFC 5267]."""

from __future__ import annotations

import pytest

from tests.conformance.conftest import World
from tests.conformance.imap import Imap, numbers

pytestmark = pytest.mark.island


def mail(number: int, *, date: str, subject: str, body: str = "", more: str = "") -> bytes:
    head = (f"From: Person{number} <p{number}@example.test>\r\nTo: team{number % 2}@example.test\r\n"
            f"Date: {date}\r\nSubject: {subject}\r\nMessage-ID: <{number}@example.test>\r\n{more}\r\n")
    return (head + (body or f"body number{number} here\r\n")).encode()


MAILS = [
    (mail(1, date="Mon, 1 Jan 2007 00:30:00 +0200", subject="Alpha report", more="Cc: boss@example.test\r\n"),
     "\\Seen", "10-Jan-2007 12:00:00 +0000"),
    (mail(2, date="Mon, 1 Jan 2007 23:30:00 -0800", subject="=?utf-8?q?Sch=C3=B6ne_Gr=C3=BC=C3=9Fe?="),
     "\\Answered", "11-Jan-2007 12:00:00 +0000"),
    (mail(3, date="Tue, 2 Jan 2007 12:00:00 +0000", subject="gamma", body="x" * 5000 + " needle\r\n"),
     "\\Flagged $Work", "12-Jan-2007 12:00:00 +0000"),
    (mail(4, date="Wed, 3 Jan 2007 12:00:00 +0000", subject="Delta [list] topic", more="X-Custom: special value\r\n"),
     "\\Deleted", "13-Jan-2007 12:00:00 +0000"),
    (mail(5, date="Thu, 4 Jan 2007 12:00:00 +0000", subject="", more="Bcc: hidden@example.test\r\nX-Empty:\r\n"),
     "\\Draft", "14-Jan-2007 12:00:00 +0000"),
    (mail(6, date="Fri, 5 Jan 2007 12:00:00 +0000", subject='quote "this" \\ back',
          more="MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n",
          body="w7xiZXJhbGwgbmVlZGxl\r\n"), "", "15-Jan-2007 12:00:00 +0000"),
]


@pytest.fixture(scope="module")
def searched(shore) -> str:  # type: ignore[no-untyped-def]
    world = World(shore, shore.tls())
    client = world.alice()
    client.ok("CREATE searched")
    for data, flags, date in MAILS:
        client.append("searched", data, flags, date)
    client.select("searched")  # none is recent for those who come later
    client.close()
    return "searched"


@pytest.fixture
def found(imap: Imap, searched: str) -> Imap:
    imap.ok(f"EXAMINE {searched}")
    return imap


ALL = [1, 2, 3, 4, 5, 6]
KEYS: list[tuple[str, list[int]]] = [
    ("ALL", ALL), ("1", [1]), ("2:3", [2, 3]), ("*", [6]), ("1,3,5", [1, 3, 5]), ("3:*", [3, 4, 5, 6]), ("9:*", [6]), ("*:9", [6]), ("1:2,6,9:*", [1, 2, 6]),
    ("UID 1:*", ALL), ("UID 2:3,5", [2, 3, 5]), ("UID 999", []), ("UID 999:*", [6]),
    ("SEEN", [1]), ("UNSEEN", [2, 3, 4, 5, 6]), ("ANSWERED", [2]), ("UNANSWERED", [1, 3, 4, 5, 6]),
    ("FLAGGED", [3]), ("UNFLAGGED", [1, 2, 4, 5, 6]), ("DELETED", [4]), ("UNDELETED", [1, 2, 3, 5, 6]),
    ("DRAFT", [5]), ("UNDRAFT", [1, 2, 3, 4, 6]), ("KEYWORD $Work", [3]), ("KEYWORD $work", [3]),
    ("UNKEYWORD $Work", [1, 2, 4, 5, 6]), ("KEYWORD never-used", []), ("UNKEYWORD never-used", ALL),
    ("FROM person1", [1]), ("FROM p2@example", [2]), ("FROM PERSON", ALL), ("FROM \"Person3 <p3@\"", [3]),
    ("TO team0", [2, 4, 6]), ("CC boss", [1]), ("BCC hidden", [5]), ("SUBJECT alpha", [1]), ("SUBJECT REPORT", [1]),
    ("SUBJECT pha", [1]), ("SUBJECT \"Alpha report\"", [1]), ("SUBJECT [list]", [4]),
    ('SUBJECT "quote \\"this\\" \\\\ back"', [6]),
    ("HEADER X-Custom special", [4]), ("HEADER x-custom \"\"", [4]), ("HEADER X-Empty \"\"", [5]),
    ("SUBJECT \"\"", ALL), ("HEADER SUBJECT \"\"", ALL), ("FROM \"\"", ALL), ("CC \"\"", [1]), ("NOT BCC \"\"", [1, 2, 3, 4, 6]),
    ("HEADER X-None \"\"", []), ("HEADER Subject gamma", [3]), ("HEADER Message-ID <3@example.test>", [3]),
    ("HEADER Message-ID 3@example", [3]), ("HEADER From Person4", [4]), ("HEADER Date 2007", ALL),
    ("BODY needle", [3, 6]), ("BODY NEEDLE", [3, 6]), ("BODY number1", [1]), ("BODY Alpha", []), ("BODY \"here\"", [1, 2, 4, 5]),
    # [RFC 9051 §6.4.4] BODY and TEXT may match flexibly: here they match the beginnings of words.
    ("BODY umber", []), ("BODY numb", [1, 2, 4, 5]), ("TEXT alpha", [1]), ("TEXT needle", [3, 6]), ("TEXT special", [4]), ("TEXT \"\"", ALL),
    ("TEXT \"number2 here\"", [2]), ("BODY \"\"", ALL),
    ("LARGER 4000", [3]), ("SMALLER 4000", [1, 2, 4, 5, 6]), ("LARGER 0", ALL), ("SMALLER 0", []),
    ("BEFORE 12-Jan-2007", [1, 2]), ("ON 12-Jan-2007", [3]), ("SINCE 12-Jan-2007", [3, 4, 5, 6]),
    ("BEFORE \"12-Jan-2007\"", [1, 2]), ("ON 1-Jan-2000", []), ("SINCE 1-Jan-2000", ALL),
    ("SENTBEFORE 2-Jan-2007", [1, 2]), ("SENTON 1-Jan-2007", [1, 2]), ("SENTON 2-Jan-2007", [3]),
    ("SENTSINCE 2-Jan-2007", [3, 4, 5, 6]), ("SENTON 31-Dec-2006", []),
    ("SENTSINCE 1-Jan-2007 SENTBEFORE 3-Jan-2007", [1, 2, 3]),
    ("NOT SEEN", [2, 3, 4, 5, 6]), ("NOT NOT SEEN", [1]), ("OR SEEN FLAGGED", [1, 3]), ("SEEN FLAGGED", []),
    ("OR SEEN OR FLAGGED DELETED", [1, 3, 4]), ("(SEEN)", [1]), ("(OR SEEN (FLAGGED KEYWORD $Work))", [1, 3]),
    ("NOT (OR SEEN FLAGGED)", [2, 4, 5, 6]), ("NOT 1:3", [4, 5, 6]), ("OR 1 UID 5", [1, 5]),
    ("1:3 NOT FLAGGED SUBJECT alpha", [1]), ("NOT SUBJECT alpha", [2, 3, 4, 5, 6]), ("NOT BODY needle", [1, 2, 4, 5]),
    ("OR BODY number1 SUBJECT gamma", [1, 3]), ("CHARSET UTF-8 SUBJECT alpha", [1]),
    ("CHARSET us-ascii SUBJECT alpha", [1]), ("NOT NEW", ALL), ("OLD", ALL), ("RECENT", []),
]


def test_6_4_4_every_key(found: Imap) -> None:
    wrong = []
    for key, wanted in KEYS:
        reply = found.cmd("SEARCH " + key)
        got = reply.search() if reply.status == "OK" else reply
        if wanted is not None and got != wanted:
            wrong.append((key, got, wanted))
        assert len(reply.all("SEARCH")) == 1 or reply.status != "OK"
    assert wrong == []


def test_6_4_4_utf8(found: Imap) -> None:
    for word in ("schöne", "SCHÖNE", "grüße", "GRÜSSE", "schöne grüße"):
        assert found.cmd("SEARCH CHARSET UTF-8 SUBJECT ", word.encode()).search() == [2], word
    assert found.cmd("SEARCH CHARSET UTF-8 BODY ", "überall".encode()).search() == [6]
    assert found.cmd("SEARCH CHARSET UTF-8 TEXT ", "ÜBERALL".encode()).search() == [6]


def test_6_4_4_badcharset_is_no_not_bad(found: Imap) -> None:
    for command in ("SEARCH CHARSET X-UNKNOWN ALL", "UID SEARCH CHARSET KOI8-R SUBJECT x", "SORT (DATE) X-UNKNOWN ALL",
                    "THREAD REFERENCES X-UNKNOWN ALL"):
        assert found.no(command).code.startswith("BADCHARSET"), command


def test_6_4_4_uid_search(found: Imap) -> None:
    uids = found.ok("UID SEARCH ALL").search()
    assert found.ok("UID SEARCH 2:3").search() == uids[1:3]
    assert found.ok(f"SEARCH UID {uids[4]}").search() == [5]
    assert found.ok("SEARCH 7").search() == []
    assert found.ok("SEARCH 5:9").search() == [5, 6]


def test_addresses_are_found_in_spite_of_comments(imap: Imap, box: str) -> None:
    imap.append(box, b"From: <user-from (comment)@ (comment) domain.test>\r\nTo: a (b)\r\n @c.test (Some One)\r\n\r\nx\r\n")
    imap.select(box)
    for key in ("FROM user-from@domain.test", "FROM comment", "TO a@c.test", 'TO "some one"', 'HEADER FROM "(comment)"'):
        assert imap.ok(f"SEARCH {key}").search() == [1], key
    assert imap.ok("SEARCH TO b@c.test").search() == []


def test_numbers_beyond_the_end_are_found_nowhere(imap: Imap, box: str) -> None:
    """As imaptest has it: a search for what is not there finds nothing, where FETCH is out of form."""
    imap.select(box)
    assert imap.ok("SEARCH 1").search() == []
    for _ in range(3):
        imap.append(box, b"Subject: x\r\n\r\nx\r\n")
    imap.ok("NOOP")
    assert imap.ok("SEARCH 1000").search() == []
    assert imap.ok("SEARCH 2,4:7").search() == [2]
    assert imap.ok("SEARCH 2:9").search() == [2, 3]
    assert imap.ok("SEARCH NOT 3:9").search() == [1, 2]
    found = imap.ok("SEARCH RETURN (MIN COUNT) 1000").esearch()
    assert (found["COUNT"], "MIN" in found) == ("0", False)
    imap.bad("FETCH 1000 UID")


def test_rfc4731_esearch(found: Imap) -> None:
    tag = f"t{int(found.next_tag()[1:]) + 1}"
    result = found.ok("SEARCH RETURN (MIN MAX COUNT ALL) UNSEEN").esearch()
    assert result == {"UID": False, "TAG": tag, "MIN": "2", "MAX": "6", "COUNT": "5", "ALL": "2:6"}
    assert found.ok("UID SEARCH RETURN () UNSEEN").esearch()["UID"]
    assert numbers(found.ok("SEARCH RETURN () OR SEEN DRAFT").esearch()["ALL"]) == [1, 5]
    assert found.ok("SEARCH RETURN (COUNT) KEYWORD never").esearch()["COUNT"] == "0"
    empty = found.ok("SEARCH RETURN (MIN MAX ALL COUNT) KEYWORD never").esearch()
    assert {"MIN", "MAX", "ALL"}.isdisjoint(empty)
    assert found.ok("SEARCH RETURN (MIN) ALL").esearch()["MIN"] == "1"
    assert not found.ok("SEARCH RETURN (MIN) ALL").all("SEARCH")


def test_9051_7_3_4_esearch_after_enable_rev2(found: Imap) -> None:
    """[RFC 9051 §6.4.4] a rev2 server answers a plain SEARCH with ESEARCH."""
    found.ok("ENABLE IMAP4rev2")
    reply = found.ok("SEARCH UNSEEN")
    assert reply.all("SEARCH") == []
    assert numbers(reply.esearch()["ALL"]) == [2, 3, 4, 5, 6]


def test_rfc5182_2_1_what_is_saved_when_a_search_fails(imap: Imap, box: str) -> None:
    """NO: "$" is empty. BAD: it stays."""
    imap.append(box, b"Subject: a\r\n\r\n")
    imap.select(box)
    for command in ("SEARCH RETURN (SAVE) CHARSET X-UNKNOWN ALL", "SORT RETURN (SAVE) (DATE) X-UNKNOWN ALL"):
        imap.ok("SEARCH RETURN (SAVE) ALL")
        imap.bad("SEARCH RETURN (SAVE) FOO")
        assert sorted(imap.ok("FETCH $ UID").fetched()) == [1]
        assert imap.no(command).code.startswith("BADCHARSET")
        assert imap.ok("FETCH $ UID").fetched() == {}


@pytest.mark.parametrize("key", ["KEYWORD \\Seen", "UNKEYWORD \\Deleted", "KEYWORD", "KEYWORD a]b", "NOT", "OR ALL", "()",
                                 "UID", "UID 0", "LARGER -1", "BEFORE 31-Feb-2020", "SINCE 2020-01-01", "HEADER x",
                                 "FROM", "NONSENSE", "1:", "1,,2", "ALL ", "(ALL", "ALL)"])
def test_6_4_4_keys_out_of_form(found: Imap, key: str) -> None:
    found.bad(f"SEARCH {key}")
    found.bad(f"UID SEARCH {key}")
    assert found.ok("SEARCH ALL").search() == ALL


def test_rfc5182_2_1_what_is_expunged_leaves_the_variable(imap: Imap, box: str) -> None:
    for _ in range(3):
        imap.append(box, b"Subject: x\r\n\r\nx\r\n")
    imap.select(box)
    imap.ok("SEARCH RETURN (SAVE) ALL")
    imap.ok("STORE 2 +FLAGS.SILENT (\\Deleted)")
    imap.ok("EXPUNGE")
    reply = imap.ok("FETCH $ (UID)")
    assert reply.by_uid().keys() == {1, 3}
    assert reply.code == ""


def test_rfc5182_searchres(imap: Imap, box: str) -> None:
    for number in range(1, 6):
        imap.append(box, mail(number, date="Mon, 1 Jan 2007 00:30:00 +0200", subject=f"s{number}"))
    imap.select(box)
    assert imap.ok("FETCH $ FLAGS").fetched() == {}
    reply = imap.ok("SEARCH RETURN (SAVE) OR SUBJECT s2 SUBJECT s4")
    assert reply.all("ESEARCH") == []
    assert sorted(imap.ok("FETCH $ UID").fetched()) == [2, 4]
    assert imap.ok("SEARCH $ SUBJECT s4").search() == [4]
    assert imap.ok("SEARCH NOT $").search() == [1, 3, 5]
    imap.ok("UID STORE $ +FLAGS (\\Flagged)")
    assert imap.ok("SEARCH FLAGGED").search() == [2, 4]
    imap.ok("SEARCH RETURN (SAVE MIN) ALL")
    assert sorted(imap.ok("UID FETCH $ FLAGS").fetched()) == [1]
    imap.ok("SEARCH RETURN (SAVE MIN MAX) ALL")
    assert sorted(imap.ok("FETCH $ UID").fetched()) == [1, 5]
    imap.ok("SEARCH RETURN (SAVE COUNT) UID 2:4")
    assert sorted(imap.ok("FETCH $ UID").fetched()) == [2, 3, 4]
    imap.ok("STORE 2:3 +FLAGS.SILENT (\\Deleted)")
    imap.ok("EXPUNGE")                              # [RFC 5182 §2.1] expunged ones leave "$"
    assert sorted(imap.ok("FETCH $ UID").fetched()) == [2]
    imap.ok(f"COPY $ {box}")
    imap.ok("SEARCH RETURN (SAVE) KEYWORD never")
    assert imap.ok("FETCH $ UID").fetched() == {}
    imap.ok("SEARCH RETURN (SAVE) ALL")
    imap.bad("SEARCH RETURN (SAVE) FOO")
    assert len(imap.ok("FETCH $ UID").fetched()) >= 3  # [RFC 5182 §2.1] BAD does not change it
    imap.select(box)
    assert imap.ok("FETCH $ UID").fetched() == {}


# SORT

SORTED = [  # (from, to, cc, subject, date, internal date, filler)
    ("b@x", "z@x", "m@x", "Re: banana", "Tue, 2 Jan 2007 10:00:00 +0000", "13-Jan-2007 00:00:00 +0000", 30),
    ("a@x", "y@x", "n@x", "apple", "Mon, 1 Jan 2007 10:00:00 +0000", "12-Jan-2007 00:00:00 +0000", 10),
    ("C@x", "X@x", "", "[list] Fwd: Cherry (fwd)", "Tue, 2 Jan 2007 10:30:00 +0200", "11-Jan-2007 00:00:00 +0000", 20),
    ("a@x", "w@x", "", "Banana", "Thu, 4 Jan 2007 10:00:00 +0000", "14-Jan-2007 00:00:00 +0000", 20),
    ("d@x", "v@x", "", "", "not a date", "10-Jan-2007 00:00:00 +0000", 0),
]


@pytest.fixture
def sortable(imap: Imap, box: str) -> Imap:
    for sender, to, cc, subject, date, internal, size in SORTED:
        head = f"From: N <{sender}>\r\nTo: N <{to}>\r\n" + (f"Cc: N <{cc}>\r\n" if cc else "")
        imap.append(box, (head + f"Subject: {subject}\r\nDate: {date}\r\n\r\n" + "x" * size).encode(), date=internal)
    imap.select(box)
    return imap


@pytest.mark.parametrize(("criteria", "wanted"), [
    ("ARRIVAL", [5, 3, 2, 1, 4]), ("REVERSE ARRIVAL", [4, 1, 2, 3, 5]),
    ("DATE", [2, 3, 1, 4, 5]), ("REVERSE DATE", [5, 4, 1, 3, 2]),
    ("FROM", [2, 4, 1, 3, 5]), ("REVERSE FROM", [5, 3, 1, 2, 4]), ("TO", [5, 4, 3, 2, 1]),
    ("CC", [3, 4, 5, 1, 2]), ("SUBJECT", [5, 2, 1, 4, 3]), ("REVERSE SUBJECT", [3, 1, 4, 2, 5]),
    ("SUBJECT DATE", [5, 2, 1, 4, 3]), ("SUBJECT REVERSE DATE", [5, 2, 4, 1, 3]), ("FROM REVERSE ARRIVAL", [4, 2, 1, 3, 5]),
])
def test_rfc5256_sort(sortable: Imap, criteria: str, wanted: list[int]) -> None:
    """Message 5 has no date that can be read: its internal date counts [RFC 5256 §2.2]."""
    reply = sortable.ok(f"SORT ({criteria}) UTF-8 ALL")
    assert [int(value) for value in reply.one("SORT").values] == wanted
    reply = sortable.ok(f"UID SORT ({criteria}) US-ASCII ALL")
    assert [int(value) for value in reply.one("SORT").values] == wanted


def test_rfc4790_9_2_letters_come_before_signs(imap: Imap, box: str) -> None:
    """Collation is by capitals: "A" < "B" < "[" < "_"; subjects "b" and "[XYZ]" keep what is no list's name."""
    for subject in ("_", "[xyz]", "b", "a", "Re: [FWD: B]"):
        imap.append(box, f"From: n@x\r\nSubject: {subject}\r\n\r\nx\r\n".encode())
    imap.select(box)
    assert imap.ok("SORT (SUBJECT) US-ASCII ALL").one("SORT").values == ["4", "3", "5", "2", "1"]


def test_rfc5267_3_a_sorted_set_keeps_its_order(imap: Imap, box: str) -> None:
    for size in (1, 2, 3, 9, 8):
        imap.append(box, b"From: n@x\r\n\r\n" + b"x" * size)
    imap.select(box)
    assert imap.ok("SORT RETURN (ALL) (SIZE) US-ASCII ALL").esearch()["ALL"] == "1:3,5,4"


def test_rfc5256_sort_of_a_search(sortable: Imap) -> None:
    assert sortable.ok("SORT (REVERSE SIZE) UTF-8 SUBJECT banana").one("SORT").values == ["1", "4"]
    assert sortable.ok("SORT (DATE) UTF-8 SUBJECT nothing").one("SORT").values == []
    result = sortable.ok("SORT RETURN (ALL COUNT MIN) (ARRIVAL) UTF-8 ALL").esearch()
    assert result["COUNT"] == "5"
    assert result["ALL"].replace(":", ",").split(",")[0] == "5"
    assert result["MIN"] == "5"


# THREAD


def thread(client: Imap, algorithm: str) -> str:
    reply = client.ok(f"THREAD {algorithm} UTF-8 ALL")
    return str(reply.one("THREAD").values).replace("'", "").replace(",", "")


def fill(client: Imap, box: str, *mails: tuple[str, str, str, str]) -> None:
    """(id, references, subject, day)"""
    for name, references, subject, day in mails:
        head = f"Message-ID: <{name}@x>\r\n" if name else ""
        if references.startswith("reply "):
            head += f"In-Reply-To: <{references[6:]}@x>\r\n"
        elif references:
            head += "References: " + " ".join(f"<{one}@x>" for one in references.split()) + "\r\n"
        client.append(box, (head + f"Subject: {subject}\r\nDate: {day} Jan 2007 10:00:00 +0000\r\n\r\nx").encode())
    client.select(box)


def test_rfc5256_thread_references(imap: Imap, box: str) -> None:
    fill(imap, box, ("a", "", "one", "1"), ("b", "a", "Re: one", "2"), ("c", "a b", "Re: one", "3"),
         ("d", "a", "Re: one", "4"), ("e", "", "other", "5"), ("f", "reply e", "Re: other", "6"))
    assert thread(imap, "REFERENCES") == "[[1 [2 3] [4]] [5 6]]"


def test_rfc5256_thread_missing_parent(imap: Imap, box: str) -> None:
    fill(imap, box, ("b", "gone", "Re: x", "2"), ("c", "gone", "Re: y", "3"), ("d", "lost", "Re: z", "4"))
    assert thread(imap, "REFERENCES") == "[[[1] [2]] [3]]"


def test_rfc5256_thread_step_5_reply_below_the_first(imap: Imap, box: str) -> None:
    """A reply without references goes below the message of its subject that is no reply (step 5.C, third rule)."""
    fill(imap, box, ("a", "", "topic", "1"), ("b", "", "Re: topic", "2"))
    assert thread(imap, "REFERENCES") == "[[1 2]]"


def test_rfc5256_thread_step_5_two_that_are_no_replies(imap: Imap, box: str) -> None:
    fill(imap, box, ("a", "", "topic", "1"), ("b", "", "topic", "2"))
    assert thread(imap, "REFERENCES") == "[[[1] [2]]]"


def test_rfc5256_thread_step_5_reply_comes_first(imap: Imap, box: str) -> None:
    """Step 5.B: the message that is no reply takes the place of the reply in the subject table."""
    fill(imap, box, ("b", "", "Re: topic", "1"), ("a", "", "topic", "2"))
    assert thread(imap, "REFERENCES") == "[[2 1]]"


def test_rfc5256_thread_loops_and_repeated_ids(imap: Imap, box: str) -> None:
    fill(imap, box, ("a", "b", "l1", "1"), ("b", "a", "l2", "2"), ("a", "", "l3", "3"), ("", "", "l4", "4"))
    flat = thread(imap, "REFERENCES").replace("[", " ").replace("]", " ").split()
    assert sorted(flat) == ["1", "2", "3", "4"]


def test_rfc5256_thread_orderedsubject(imap: Imap, box: str) -> None:
    fill(imap, box, ("a", "", "one", "3"), ("b", "", "Re: two", "2"), ("c", "", "RE: one", "1"), ("d", "", "two", "4"),
         ("e", "", "Re: one", "5"))
    assert thread(imap, "ORDEREDSUBJECT") == "[[3 [1] [5]] [2 4]]"


def test_rfc5256_thread_of_nothing(imap: Imap, box: str) -> None:
    imap.select(box)
    assert imap.ok("THREAD REFERENCES UTF-8 ALL").one("THREAD").values == []
    assert imap.ok("UID THREAD ORDEREDSUBJECT UTF-8 SUBJECT x").one("THREAD").values == []
