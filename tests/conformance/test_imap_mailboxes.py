"""IMAP: mailboxes [RFC 9051 §6.3], [RFC 3501 §6.3], [RFC 5258], [RFC 5819], [RFC 6154], [RFC 8438], [RFC 2342]."""

from __future__ import annotations

import pytest

from tests.conformance.conftest import World
from tests.conformance.imap import Imap, Syntax, numbers

pytestmark = pytest.mark.island

MAIL = b"Subject: x\r\n\r\nbody\r\n"


@pytest.fixture
def own(world: World) -> Imap:
    """A person of this test alone."""
    return world.imap(world.account())


def listed(client: Imap, pattern: str, reference: str = "") -> set[str]:
    return set(client.ok(f'LIST "{reference}" "{pattern}"').boxes())


def status(client: Imap, box: str, *items: str) -> dict[str, int]:
    values = client.ok(f'STATUS "{box}" ({" ".join(items)})').one("STATUS").values[1]
    return {name: int(value) for name, value in zip(values[::2], values[1::2], strict=True)}


def test_6_3_9_list_patterns(own: Imap) -> None:
    for name in ("a", "a/b", "a/b/c", "a/bb", "ab", "x/y/z"):
        own.ok(f"CREATE {name}")
    mine = {"a", "a/b", "a/b/c", "a/bb", "ab", "x/y/z", "x/y", "x"}
    cases = {
        "*": mine, "%": {"a", "ab", "x"}, "a": {"a"}, "a*": {"a", "a/b", "a/b/c", "a/bb", "ab"}, "a%": {"a", "ab"},
        "a/%": {"a/b", "a/bb"}, "a/*": {"a/b", "a/b/c", "a/bb"}, "%/%": {"a/b", "a/bb", "x/y"}, "*/c": {"a/b/c"},
        "%b": {"ab"}, "*b": {"a/b", "a/bb", "ab"}, "%/%/%": {"a/b/c", "x/y/z"}, "a/b%": {"a/b", "a/bb"},
        "%*": mine, "a%b": {"ab"}, "a*b": {"a/b", "a/bb", "ab"}, "b": set(), "A": set(), "x/y/": set(), "*%*z": {"x/y/z"},
    }
    system = listed(own, "*") - mine
    assert "INBOX" in system
    for pattern, wanted in cases.items():
        assert listed(own, pattern) - system == wanted, pattern
    assert listed(own, "%", "a/") == {"a/b", "a/bb"}
    assert listed(own, "b/*", "a/") == {"a/b/c"}
    attributes = own.ok('LIST "" *').boxes()
    assert "\\HasChildren" in attributes["a"]
    assert "\\HasNoChildren" in attributes["a/b/c"]


def test_6_3_7_a_subscription_outlives_its_mailbox(own: Imap) -> None:
    """The name stays until the client takes it away, and means the mailbox again that is made under it."""
    for name in own.ok('LSUB "" *').boxes("LSUB"):
        own.ok(f'UNSUBSCRIBE "{name}"')
    for name in ("gone/one", "gone/two"):
        own.ok(f"CREATE {name}")
        own.ok(f"SUBSCRIBE {name}")
        own.ok(f"DELETE {name}")
    own.ok("DELETE gone")
    assert own.ok('LSUB "" *').boxes("LSUB") == {name: ["\\Noselect"] for name in ("gone/one", "gone/two")}
    assert own.ok('LSUB "" %').boxes("LSUB") == {"gone": ["\\Noselect"]}
    found = own.ok('LIST (SUBSCRIBED) "" *').boxes()
    assert {name: set(words) for name, words in found.items()} == {
        name: {"\\NonExistent", "\\Subscribed"} for name in ("gone/one", "gone/two")}
    assert own.ok('LIST "" gone*').boxes() == {}
    own.ok("UNSUBSCRIBE gone/two")
    own.no("UNSUBSCRIBE gone/two")
    own.ok("CREATE gone/one")
    assert own.ok('LSUB "" *').boxes("LSUB") == {"gone/one": []}
    assert "\\Subscribed" in own.ok('LIST "" gone/one RETURN (SUBSCRIBED)').boxes()["gone/one"]
    own.ok("UNSUBSCRIBE gone/one")
    assert own.ok('LSUB "" *').boxes("LSUB") == {}


def test_3501_6_3_1_first_unseen(own: Imap) -> None:
    """[RFC 3501 §6.3.1] "OK [UNSEEN <n>]" belongs to SELECT; a rev2 client knows none [RFC 9051 appendix E]."""
    own.ok("CREATE seen")
    for flags in ("\\Seen", "\\Seen", "", "\\Seen", ""):
        own.append("seen", b"From: n@x\r\n\r\nx\r\n", flags)
    assert own.select("seen").code_of("UNSEEN") == "3"
    own.ok("UID STORE 1 +FLAGS.SILENT (\\Deleted)")
    own.ok("EXPUNGE")
    assert own.ok("EXAMINE seen").code_of("UNSEEN") == "2"
    own.ok("SELECT seen")
    own.ok("STORE 1:* +FLAGS.SILENT (\\Seen)")
    assert not own.select("seen").has_code("UNSEEN")
    own.ok("STORE 2 -FLAGS.SILENT (\\Seen)")
    own.ok("ENABLE IMAP4rev2")
    assert not own.select("seen").has_code("UNSEEN")


def test_6_3_9_inbox_and_delimiter(own: Imap) -> None:
    for spelling in ("INBOX", "inbox", "InBox"):
        assert listed(own, spelling) == {"INBOX"}
        own.ok(f"SELECT {spelling}")
    assert "INBOX" in listed(own, "I*")
    assert "INBOX" in listed(own, "%")
    reply = own.ok('LIST "" ""')
    assert reply.one("LIST").values[1:] == [b"/", b""]
    assert "\\Noselect" in reply.one("LIST").values[0]


def test_5_1_inbox_in_any_case_before_a_wildcard(own: Imap) -> None:
    own.ok("CREATE INBOX/sub")
    own.ok("CREATE inboxes")
    assert own.ok('LIST "" "inbox*"').boxes().keys() == {"INBOX", "INBOX/sub", "inboxes"}
    assert own.ok('LIST "" "InB%"').boxes().keys() == {"INBOX"}
    assert own.ok('LIST "" "inboxe*"').boxes().keys() == {"inboxes"}


def test_6_3_4_create(own: Imap) -> None:
    reply = own.ok("CREATE new")
    assert reply.has_code("MAILBOXID")
    assert own.no("CREATE new").code == "ALREADYEXISTS"
    for name in ("INBOX", "inbox"):
        own.no(f"CREATE {name}")
    own.ok("CREATE parent/")
    assert "parent" in listed(own, "*")
    own.ok("CREATE one/two/three")
    assert {"one", "one/two", "one/two/three"} <= listed(own, "*")
    own.select("one/two/three")
    for bad in ('"a//b"', '"/a"', '""', '"a/b//"', '"%"', '"a*"', '"a/../b"'):
        assert own.cmd(f"CREATE {bad}").status in ("NO", "BAD"), bad


def test_6_3_4_uidvalidity_of_a_new_one_of_that_name(own: Imap) -> None:
    own.ok("CREATE again")
    own.append("again", MAIL)
    before = status(own, "again", "UIDVALIDITY", "UIDNEXT")
    own.ok("DELETE again")
    own.ok("CREATE again")
    after = status(own, "again", "UIDVALIDITY", "UIDNEXT", "MESSAGES")
    assert after["UIDVALIDITY"] > before["UIDVALIDITY"]
    assert after["MESSAGES"] == 0


@pytest.mark.parametrize("name", ["Entw&APw-rfe", "&ZeVnLIqe-/&U,BTFw-", "a &- b", "&2D3eAA-", "~peter/mail/&U,BTF2XlZyyKng-"])
def test_5_1_3_modified_utf7(own: Imap, name: str) -> None:
    own.ok(f'CREATE "{name}"')
    assert name in own.ok('LIST "" *').boxes()
    own.select(name)
    assert own.ok(f'STATUS "{name}" (MESSAGES)').one("STATUS").values[0] in (name, name.encode())
    own.ok(f'DELETE "{name}"')


@pytest.mark.parametrize("name", ["&", "&AGE-", "&Jjo", "a&b", "&-&AOk", "&AOkA6Q-&AOk-"])
def test_5_1_3_broken_modified_utf7(own: Imap, name: str) -> None:
    assert own.cmd(f'CREATE "{name}"').status in ("NO", "BAD")


def test_5_1_utf8_names_after_enable_rev2(own: Imap) -> None:
    own.ok('CREATE "Entw&APw-rfe"')
    own.ok("ENABLE IMAP4rev2")
    assert "Entwürfe" in own.ok('LIST "" *').boxes()
    own.ok('SELECT "Entwürfe"')
    own.ok('CREATE "日本/語"')
    assert "日本/語" in own.ok('LIST "" "日*"').boxes()
    own.ok('CREATE "a & b"')
    assert "a & b" in own.ok('LIST "" "a*"').boxes()


def test_6_3_6_rename_with_hierarchy(own: Imap) -> None:
    for name in ("p/q/r", "other"):
        own.ok(f"CREATE {name}")
    own.append("p/q", MAIL)
    before = status(own, "p/q", "UIDVALIDITY", "UIDNEXT", "MESSAGES")
    own.ok("RENAME p new/p")
    names = listed(own, "*")
    assert {"new", "new/p", "new/p/q", "new/p/q/r"} <= names
    assert not {"p", "p/q", "p/q/r"} & names
    assert status(own, "new/p/q", "UIDVALIDITY", "UIDNEXT", "MESSAGES") == before
    assert own.no("RENAME other new/p").code == "ALREADYEXISTS"
    assert own.no("RENAME nowhere x").code == "NONEXISTENT"
    own.no("RENAME new/p new/p/q/inside")
    own.no("RENAME other INBOX")
    own.no("RENAME other inbox")
    own.ok("RENAME other Other")
    assert "Other" in listed(own, "*")


def test_6_3_6_rename_inbox(own: Imap) -> None:
    own.append("INBOX", MAIL, "\\Seen")
    own.append("INBOX", MAIL)
    own.ok("CREATE INBOX/child")
    own.ok("RENAME INBOX old-inbox")
    assert {"INBOX", "INBOX/child", "old-inbox"} <= listed(own, "*")
    assert status(own, "INBOX", "MESSAGES") == {"MESSAGES": 0}
    assert status(own, "old-inbox", "MESSAGES", "UNSEEN") == {"MESSAGES": 2, "UNSEEN": 1}
    own.append("INBOX", MAIL)


def test_6_3_6_rename_of_the_selected_mailbox(world: World) -> None:
    login = world.account()
    one, two = world.imap(login), world.imap(login)
    one.ok("CREATE here")
    one.append("here", MAIL)
    one.select("here")
    two.ok("RENAME here there")
    assert one.ok("FETCH 1 FLAGS").fetched().keys() == {1}
    two.append("there", MAIL)
    assert one.ok("NOOP").numbers("EXISTS") == [2]


def test_6_3_5_delete(own: Imap) -> None:
    own.ok("CREATE gone")
    own.append("gone", MAIL)
    own.ok("DELETE gone")
    assert "gone" not in listed(own, "*")
    assert own.no("SELECT gone").code == "NONEXISTENT"
    assert own.no("DELETE gone").code == "NONEXISTENT"
    own.no("DELETE INBOX")
    own.no("DELETE inbox")
    own.ok("CREATE up/down")
    assert own.no("DELETE up").code == "HASCHILDREN"
    own.ok("DELETE up/down")
    own.ok("DELETE up")


def test_6_3_5_delete_of_a_mailbox_that_is_selected(world: World) -> None:
    login = world.account()
    one, two = world.imap(login), world.imap(login)
    one.ok("CREATE here")
    one.append("here", MAIL)
    one.select("here")
    two.ok("DELETE here")
    tag = one.start("NOOP")
    first = one.read()
    assert tag
    assert first  # BYE, or an answer; then the session is of use or over
    two.ok("CREATE self")
    two.select("self")
    two.ok("DELETE self")
    two.bad("FETCH 1:* FLAGS")
    two.ok("NOOP")


def test_6_3_7_subscribe_and_lsub(own: Imap) -> None:
    for name in ("s/one", "s/two", "t"):
        own.ok(f"CREATE {name}")
    for name in listed(own, "*"):
        own.cmd(f"UNSUBSCRIBE {name}")
    own.ok("SUBSCRIBE s/one")
    own.ok("SUBSCRIBE t")
    own.ok("SUBSCRIBE t")
    assert set(own.ok('LSUB "" *').boxes("LSUB")) == {"s/one", "t"}
    assert own.ok('LSUB "" %').boxes("LSUB").keys() == {"s", "t"}
    assert "\\Noselect" in own.ok('LSUB "" %').boxes("LSUB")["s"]
    assert set(own.ok('LIST (SUBSCRIBED) "" *').boxes()) == {"s/one", "t"}
    own.ok("UNSUBSCRIBE t")
    own.ok("UNSUBSCRIBE t")
    assert set(own.ok('LSUB "" *').boxes("LSUB")) == {"s/one"}
    own.cmd("SUBSCRIBE nowhere")


def test_rfc5258_list_extended(own: Imap) -> None:
    for name in ("u/v/w", "x"):
        own.ok(f"CREATE {name}")
    for name in listed(own, "*"):
        own.cmd(f"UNSUBSCRIBE {name}")
    own.ok("SUBSCRIBE u/v/w")
    own.ok("SUBSCRIBE x")
    boxes = own.ok('LIST "" (u x "u/%") RETURN (SUBSCRIBED CHILDREN)').boxes()
    assert boxes.keys() == {"u", "u/v", "x"}
    assert "\\Subscribed" in boxes["x"]
    assert "\\Subscribed" not in boxes["u"]
    assert "\\HasChildren" in boxes["u"]
    found = own.ok('LIST (SUBSCRIBED RECURSIVEMATCH) "" %').all("LIST")
    by_name = {one.values[2]: one.values for one in found}
    assert by_name.keys() == {"u", "x"}
    assert by_name["u"][3] == [b"CHILDINFO", [b"SUBSCRIBED"]]
    assert "\\Subscribed" not in by_name["u"][0]
    assert len(by_name["x"]) == 3
    # [RFC 5258 §3.5] not for what is below it when all of that is listed
    found = own.ok('LIST (SUBSCRIBED RECURSIVEMATCH) "" *').boxes()
    assert found.keys() == {"u/v/w", "x"}
    assert own.ok('LIST (SUBSCRIBED RECURSIVEMATCH) "" (u u/v)').boxes().keys() == {"u", "u/v"}
    own.ok("CREATE u/a")
    own.ok("SUBSCRIBE u/a")
    assert own.ok('LIST (SUBSCRIBED RECURSIVEMATCH) "" (u u/v/w)').boxes().keys() == {"u", "u/v/w"}  # u/a is not listed
    own.ok("DELETE u/a")
    own.ok("UNSUBSCRIBE u/a")
    own.bad('LIST (RECURSIVEMATCH) "" *')
    assert own.ok('LIST (SUBSCRIBED) "" *').boxes().keys() == {"u/v/w", "x"}
    assert all("\\Subscribed" in words for words in own.ok('LIST (SUBSCRIBED) "" *').boxes().values())
    assert own.ok('LIST (REMOTE) "" x').boxes().keys() == {"x"}
    assert own.ok('LIST () "" x RETURN ()').boxes().keys() == {"x"}
    assert own.ok('LIST "" ()').all("LIST") == [] or True


def test_rfc5819_list_status(own: Imap) -> None:
    own.ok("CREATE ls")
    own.append("ls", MAIL)
    reply = own.ok('LIST "" (ls INBOX) RETURN (STATUS (MESSAGES UNSEEN UIDNEXT UIDVALIDITY HIGHESTMODSEQ SIZE))')
    assert reply.boxes().keys() == {"ls", "INBOX"}
    found = {one.values[0]: one.values[1] for one in reply.all("STATUS")}
    assert found.keys() == {"ls", "INBOX"}
    assert found["ls"][found["ls"].index("MESSAGES") + 1] == "1"
    kinds = [one.kind for one in reply.untagged]
    assert kinds.index("LIST") < kinds.index("STATUS")  # [RFC 5819 §2] STATUS after its LIST


def test_rfc6154_special_use(own: Imap) -> None:
    boxes = own.ok('LIST (SPECIAL-USE) "" *').boxes()
    uses = {word for words in boxes.values() for word in words if not word.startswith("\\Has")}
    assert {"\\Drafts", "\\Sent", "\\Trash", "\\Junk", "\\Archive"} <= uses
    plain = own.ok('LIST "" * RETURN (SPECIAL-USE)').boxes()
    assert all(any(word in plain[name] for word in words if not word.startswith("\\Has")) for name, words in boxes.items())
    assert own.no("CREATE Another (USE (\\Drafts))").code == "USEATTR"
    assert own.no("CREATE Odd (USE (\\NoSuchUse))").code == "USEATTR"
    own.bad("CREATE Odd (FOO (x))")
    assert "Odd" not in listed(own, "*")


def test_6_3_11_status(own: Imap) -> None:
    own.ok("CREATE st")
    for flags in ("\\Seen", "", "\\Deleted \\Seen"):
        own.append("st", MAIL, flags)
    found = status(own, "st", "MESSAGES", "RECENT", "UIDNEXT", "UNSEEN", "DELETED", "SIZE", "HIGHESTMODSEQ", "UIDVALIDITY")
    assert (found["MESSAGES"], found["UNSEEN"], found["DELETED"], found["SIZE"]) == (3, 1, 1, 3 * len(MAIL))
    assert found["RECENT"] == 3
    assert status(own, "st", "DELETED-STORAGE") == {"DELETED-STORAGE": len(MAIL)}  # [RFC 9208 §4.1.4]
    listed_too = own.ok('LIST "" st RETURN (STATUS (DELETED-STORAGE MESSAGES))').one("STATUS").values
    assert listed_too[1] == ["DELETED-STORAGE", str(len(MAIL)), "MESSAGES", "3"]
    selected = own.select("st")
    assert selected.code_of("UIDNEXT") == str(found["UIDNEXT"])
    assert selected.code_of("HIGHESTMODSEQ") == str(found["HIGHESTMODSEQ"])
    assert status(own, "st", "RECENT") == {"RECENT": 0}
    own.ok("STORE 2 +FLAGS (\\Seen)")
    assert status(own, "st", "UNSEEN") == {"UNSEEN": 0}
    assert own.no("STATUS nowhere (MESSAGES)").code == "NONEXISTENT"
    assert own.ok("STATUS inbox (MESSAGES)").one("STATUS").values[0] in ("INBOX", "inbox")


def test_6_3_2_select(own: Imap) -> None:
    own.ok("CREATE sel")
    own.append("sel", MAIL)
    own.append("sel", MAIL, "\\Seen $K")
    reply = own.select("sel")
    assert reply.code == "READ-WRITE"
    assert reply.numbers("EXISTS") == [2]
    assert reply.numbers("RECENT") == [2]
    assert {"\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft", "$K"} <= set(reply.one("FLAGS").values[0])
    assert reply.code_of("PERMANENTFLAGS").strip("()").split()[-1] == "\\*"
    for code in ("UIDVALIDITY", "UIDNEXT", "HIGHESTMODSEQ"):
        assert int(reply.code_of(code)) > 0
    reply = own.ok("EXAMINE sel")
    assert reply.code == "READ-ONLY"
    assert reply.has_code("CLOSED")
    assert reply.numbers("RECENT") == [0]
    for command in ("STORE 1 +FLAGS (\\Seen)", "EXPUNGE", "UID EXPUNGE 1:*", "MOVE 1 INBOX"):
        assert own.no(command).status == "NO"
    own.ok("COPY 1 INBOX")


def test_9051_select_after_enable_rev2(own: Imap) -> None:
    own.ok("CREATE r2")
    own.append("r2", MAIL)
    own.ok("ENABLE IMAP4rev2")
    reply = own.select("r2")
    assert reply.all("RECENT") == []
    assert "r2" in reply.boxes()
    assert "\\Recent" not in own.ok("FETCH 1 FLAGS").fetched()[1]["FLAGS"]


def test_rfc2342_namespace(own: Imap) -> None:
    personal, others, shared = own.ok("NAMESPACE").one("NAMESPACE").values
    assert personal == [[b"", b"/"]]
    assert others is None or others[0][1] == b"/"
    assert shared is None or shared[0][1] == b"/"


def test_rfc9208_quota(own: Imap) -> None:
    reply = own.ok("GETQUOTAROOT INBOX")
    root = reply.one("QUOTAROOT").values
    assert root[0] == "INBOX"
    quota = reply.one("QUOTA").values
    assert quota[0] == root[1]
    name = quota[0].decode() if isinstance(quota[0], bytes) else quota[0]
    assert own.ok(f'GETQUOTA "{name}"').one("QUOTA").values[0] == quota[0]
    if quota[1]:
        assert quota[1][0] in ("STORAGE", "MESSAGE")
    own.no('GETQUOTA "nothing of that name"')
    own.no(f'SETQUOTA "{name}" (STORAGE 1)')
    own.no("GETQUOTAROOT nowhere")


def test_rfc4314_acl(world: World) -> None:
    login, guest = world.account(), world.demo("bob")
    own = world.imap(login)
    own.ok("CREATE shared")
    acl = own.ok("GETACL shared").one("ACL").values
    assert acl[0] == "shared"
    assert login[0] in (acl[1], acl[1].decode() if isinstance(acl[1], bytes) else acl[1])
    assert set("lrswipkxtea") <= set(acl[2])
    assert set("lrswipkxtea") <= set(own.ok("MYRIGHTS shared").one("MYRIGHTS").values[1])
    own.ok(f"SETACL shared {guest[0]} lrs")
    rights = dict(zip(*[iter(own.ok("GETACL shared").one("ACL").values[1:])] * 2, strict=True))
    assert set(rights[guest[0]]) == set("lrs")
    own.ok(f"SETACL shared {guest[0]} +wi")
    own.ok(f"SETACL shared {guest[0]} -s")
    rights = dict(zip(*[iter(own.ok("GETACL shared").one("ACL").values[1:])] * 2, strict=True))
    assert set(rights[guest[0]]) == set("lrwi")
    own.ok(f"LISTRIGHTS shared {guest[0]}")
    own.bad(f"SETACL shared {guest[0]} lrQ")
    own.ok(f"DELETEACL shared {guest[0]}")
    assert guest[0] not in own.ok("GETACL shared").one("ACL").values
    own.no("GETACL nowhere")
    other = world.imap(guest)
    assert other.no(f'SELECT "Other Users/{login[0]}/shared"').code == "NONEXISTENT"


def test_rfc4314_other_users_rights(world: World) -> None:
    login, guest = world.account(), world.account()
    own, other = world.imap(login), world.imap(guest)
    own.ok("CREATE team")
    own.append("team", MAIL)
    name = f"Other Users/{login[0]}/team"
    other.no(f'STATUS "{name}" (MESSAGES)')
    own.ok(f"SETACL team {guest[0]} l")
    assert other.no(f'STATUS "{name}" (MESSAGES)').code == "NOPERM"  # [RFC 4314 §4]
    told = other.ok(f'LIST "" "{name}" RETURN (STATUS (MESSAGES))')
    assert (list(told.boxes()), told.all("STATUS")) == ([name], [])
    assert other.no(f'SELECT "{name}"').code == "NOPERM"
    own.ok(f"SETACL team {guest[0]} lr")
    assert name in other.ok(f'LIST "" "Other Users/{login[0]}/*"').boxes()
    assert set(other.ok(f'MYRIGHTS "{name}"').one("MYRIGHTS").values[1]) == set("lr")
    reply = other.ok(f'SELECT "{name}"')
    assert reply.code_of("PERMANENTFLAGS") == "(\\Seen)"  # his own: the owner does not see it
    assert other.ok("FETCH 1 BODY.PEEK[]").fetched()[1]["BODY[]"] == MAIL
    assert other.no("STORE 1 +FLAGS (\\Flagged)").code == "NOPERM"
    assert other.no("EXPUNGE").code == "NOPERM"
    assert other.no("MOVE 1 INBOX").code == "NOPERM"
    assert "\\Seen" in other.ok("FETCH 1 BODY[]").fetched()[1]["FLAGS"]
    assert status(other, name, "UNSEEN") == {"UNSEEN": 0}
    assert status(own, "team", "UNSEEN", "RECENT") == {"UNSEEN": 1, "RECENT": 1}
    other.ok("STORE 1 -FLAGS.SILENT (\\Seen)")
    assert other.ok("SEARCH UNSEEN").search() == [1]
    assert other.ok(f'EXAMINE "{name}"').code_of("PERMANENTFLAGS") == "()"
    other.ok(f'SELECT "{name}"')
    assert other.no(f'APPEND "{name}" ', MAIL).code == "NOPERM"
    assert other.no(f'GETACL "{name}"').code == "NOPERM"
    assert other.no(f'DELETE "{name}"').code == "NOPERM"
    own.ok(f"SETACL team {guest[0]} lrswite")
    reply = other.ok(f'SELECT "{name}"')
    assert reply.code == "READ-WRITE"
    other.ok(f'APPEND "{name}" ', MAIL)
    other.ok("STORE 1 +FLAGS (\\Flagged \\Deleted)")
    assert other.ok("EXPUNGE").numbers("EXPUNGE") == [1]
    own.select("team")
    assert own.uids() == [2]
    own.ok(f"DELETEACL team {guest[0]}")
    assert other.no(f'SELECT "{name}"').code == "NONEXISTENT"


def test_rfc8438_status_size_equals_sizes(own: Imap) -> None:
    own.ok("CREATE sz")
    for count in (10, 1000, 100000):
        own.append("sz", MAIL + b"x" * count)
    own.select("sz")
    sizes = sum(int(one["RFC822.SIZE"]) for one in own.ok("FETCH 1:* RFC822.SIZE").fetched().values())
    assert status(own, "sz", "SIZE") == {"SIZE": sizes}


def test_rfc7889_appendlimit(own: Imap) -> None:
    word = next(word for word in own.ok("CAPABILITY").one("CAPABILITY").values if word.startswith("APPENDLIMIT"))
    assert own.ok("STATUS INBOX (APPENDLIMIT)").one("STATUS").values[1] == ["APPENDLIMIT", word.partition("=")[2]]


def test_numbers_reads_sets() -> None:
    assert numbers("1:3,7,9:8") == [1, 2, 3, 7, 8, 9]
    assert issubclass(Syntax, AssertionError)
