"""IMAP: tags, states, strings, literals, pipelines, capabilities [RFC 9051 §2, §4, §6.1, §6.2], [RFC 7888], [RFC 4959]."""

from __future__ import annotations

import base64

import pytest

from tests.conformance.conftest import World
from tests.conformance.imap import Imap, Reply, Untagged

pytestmark = pytest.mark.island

MAIL = b"From: a@example.test\r\nSubject: one\r\n\r\nbody\r\n"


def capabilities(client: Imap) -> set[str]:
    return set(client.ok("CAPABILITY").one("CAPABILITY").values)


# before sign-in


def test_7_1_4_greeting_and_6_1_1_capability(world: World) -> None:
    client = world.imap()
    assert isinstance(client.greeting, Untagged)
    assert client.greeting.kind == "OK"
    listed = capabilities(client)
    assert {"IMAP4rev1", "IMAP4rev2", "AUTH=PLAIN", "SASL-IR", "ID"} <= listed
    assert set(client.greeting.code.removeprefix("CAPABILITY ").split()) == listed


def test_6_2_1_starttls_and_logindisabled(world: World) -> None:
    client = world.imap(secure=False)
    before = capabilities(client)
    assert {"STARTTLS", "LOGINDISABLED"} <= before
    assert not [word for word in before if word.startswith("AUTH=")]
    name, password = world.demo("alice")
    assert client.no(f"LOGIN {name} {password}").code == "PRIVACYREQUIRED"
    client.ok("STARTTLS")
    client.wire.upgrade()
    after = capabilities(client)
    assert "STARTTLS" not in after
    assert "LOGINDISABLED" not in after
    client.bad("STARTTLS")
    client.ok(f"LOGIN {name} {password}")


@pytest.mark.parametrize("command", ["SELECT INBOX", 'LIST "" *', "CREATE x", "FETCH 1 FLAGS", "IDLE", "NAMESPACE",
                                     "STATUS INBOX (MESSAGES)", "UID FETCH 1 FLAGS", "CLOSE", "ENABLE CONDSTORE"])
def test_3_1_not_authenticated(world: World, command: str) -> None:
    assert world.imap().cmd(command).status in ("BAD", "NO")


def test_3_1_noop_logout_id_before_sign_in(world: World) -> None:
    client = world.imap()
    client.ok("NOOP")
    client.ok("ID NIL")
    reply = client.ok("LOGOUT")
    assert reply.one("BYE")
    assert client.wire.at_end()


def test_6_2_3_login_forms(world: World) -> None:
    name, password = world.demo("alice")
    world.imap().ok(f"LOGIN {name} {password}")
    world.imap().ok(f'login "{name}" "{password}"')
    world.imap().sync("LOGIN ", name.encode(), " ", password.encode())
    reply = world.imap().cmd("LOGIN ", name.encode(), " ", password.encode())
    assert reply.status == "OK"
    assert "CAPABILITY" in reply.code  # [RFC 9051 §6.2.3] may be sent; clients save a round trip
    assert "LOGINDISABLED" not in reply.code


def test_6_2_3_login_wrong_password(world: World) -> None:
    client = world.imap()
    assert client.no(f'LOGIN {world.demo("alice")[0]} wrong').code == "AUTHENTICATIONFAILED"
    assert client.no("LOGIN nobody@example.test wrong").code == "AUTHENTICATIONFAILED"
    client.ok("NOOP")


@pytest.mark.parametrize("line", ["LOGIN", "LOGIN one", 'LOGIN "one two', "LOGIN a b c", "AUTHENTICATE", "CAPABILITY x",
                                  "LOGIN (a) b", "NOOP x", "UNKNOWN", "STARTTLS now"])
def test_bad_arguments_before_sign_in(world: World, line: str) -> None:
    client = world.imap()
    client.bad(line)
    client.ok("NOOP")


def test_6_2_2_authenticate_plain(world: World) -> None:
    name, password = world.demo("alice")
    secret = base64.b64encode(f"\0{name}\0{password}".encode()).decode()
    client = world.imap()
    tag = client.start("AUTHENTICATE PLAIN")
    assert client.plus() == "+ "
    client.wire.send(secret.encode() + b"\r\n")
    assert client.until(tag).status == "OK"
    client.select("INBOX")
    world.imap().ok(f"AUTHENTICATE PLAIN {secret}")  # SASL-IR


def test_6_2_2_authenticate_cancel_and_garbage(world: World) -> None:
    client = world.imap()
    tag = client.start("AUTHENTICATE PLAIN")
    client.plus()
    client.wire.send(b"*\r\n")
    assert client.until(tag).status == "BAD"
    tag = client.start("AUTHENTICATE PLAIN")
    client.plus()
    client.wire.send(b"!!!\r\n")
    assert client.until(tag).status == "BAD"
    assert client.cmd("AUTHENTICATE PLAIN =").status in ("BAD", "NO")
    client.no("AUTHENTICATE NTLM")
    client.ok("NOOP")


def test_6_2_2_authzid(world: World) -> None:
    name, password = world.demo("alice")
    other = world.demo("bob")[0]
    good = base64.b64encode(f"{name}\0{name}\0{password}".encode()).decode()
    world.imap().ok(f"AUTHENTICATE PLAIN {good}")
    wrong = base64.b64encode(f"{other}\0{name}\0{password}".encode()).decode()
    assert world.imap().no(f"AUTHENTICATE PLAIN {wrong}").code == "AUTHORIZATIONFAILED"


def test_login_and_first_commands_in_one_packet(world: World) -> None:
    name, password = world.demo("alice")
    client = world.imap()
    client.wire.send(f"a LOGIN {name} {password}\r\nb SELECT INBOX\r\nc FETCH 1:* FLAGS\r\nd LOGOUT\r\n".encode())
    for tag in "abcd":
        assert client.until(tag).status == "OK"
    assert client.wire.at_end()


# after sign-in


def test_6_1_1_capabilities_after_sign_in(imap: Imap) -> None:
    listed = capabilities(imap)
    assert not [word for word in listed if word.startswith("AUTH=") or word in ("STARTTLS", "LOGINDISABLED")]
    assert {"IDLE", "NAMESPACE", "UIDPLUS", "MOVE", "CONDSTORE", "QRESYNC", "ENABLE", "ESEARCH", "SEARCHRES", "SORT",
            "LIST-EXTENDED", "LIST-STATUS", "SPECIAL-USE", "CREATE-SPECIAL-USE", "LITERAL+", "BINARY", "MULTIAPPEND",
            "ACL", "QUOTA", "ID", "UNSELECT", "OBJECTID", "STATUS=SIZE", "SASL-IR", "CHILDREN"} <= listed
    assert [word for word in listed if word.startswith("APPENDLIMIT=")]


@pytest.mark.parametrize("line", [
    "", " ", "FOO", "FETCH", "UID", "UID FOO", "UID FETCH", "SELECT", "SELECT INBOX x", 'SELECT "INBOX', "SELECT (INBOX)",
    "FETCH 1 FLAGS", "STATUS INBOX", "STATUS INBOX ()", "STATUS INBOX (FOO)", "STATUS INBOX MESSAGES", 'LIST ""',
    "LIST", "LSUB", "CREATE", "DELETE", "RENAME a", "RENAME a b c", "SUBSCRIBE", "APPEND INBOX", "NOOP x", "IDLE x",
    "LOGIN a b", "STARTTLS", "COMPRESS DEFLATE", "XLIST \"\" *", "ENABLE", "GETQUOTAROOT", "SETACL x", 'SELECT "a\\b"',
    "CAPABILITY x", "LIST (FOO) \"\" *", 'LIST "" * RETURN (FOO)', 'LIST "" * RETURN (STATUS)',
])
def test_2_2_bad_command_has_its_tag(imap: Imap, line: str) -> None:
    imap.bad(line)
    imap.ok("NOOP")


@pytest.mark.parametrize("line", [
    "FETCH 1", "FETCH 1 ()", "FETCH 1 FOO", "FETCH 1 (FLAGS", "FETCH 1 (FLAGS))", "FETCH x FLAGS", "FETCH 0 FLAGS",
    "FETCH 1:0 FLAGS", "FETCH 1,,2 FLAGS", "FETCH 1: FLAGS", "FETCH 4294967296 FLAGS", "FETCH -1 FLAGS",
    "FETCH 1 BODY[", "FETCH 1 BODY[]<0", "FETCH 1 BODY[]<0.0>", "FETCH 1 BODY[0]", "FETCH 1 BODY[1.]",
    "FETCH 1 BODY[MIME]", "FETCH 1 BODY[HEADER.FIELDS]", "FETCH 1 BODY[HEADER.FIELDS ()]", "FETCH 1 (ALL FLAGS)",
    "FETCH 1 BINARY[1.FOO]", "FETCH 1 BINARY[MIME]", "FETCH 1 BODY[]<0.>", "FETCH 1 BODY[]<x>", "FETCH 1 BODY[FOO]", "FETCH 1 (FLAGS,UID)", "FETCH 1  FLAGS", "STORE 1", "STORE 1 FLAGS",
    "STORE 1 FOO (\\Seen)", "STORE 1 +FLAGS (\\Foo)", "STORE 1 FLAGS (\\Seen", "STORE 1 +FLAGS.SILENT", "COPY 1",
    "COPY 1 INBOX x", "MOVE 1", "SEARCH", "SEARCH FOO", "SEARCH SUBJECT", "SEARCH NOT", "SEARCH OR SEEN", "SEARCH (SEEN",
    "SEARCH ()", "SEARCH BEFORE 1-Foo-2020", "SEARCH BEFORE 32-Jan-2020", "SEARCH LARGER x", "SEARCH HEADER x",
    "SEARCH RETURN (FOO) ALL", "SEARCH UID x", "SORT (FOO) UTF-8 ALL", "SORT () UTF-8 ALL", "SORT (DATE) UTF-8",
    "SORT (DATE) ALL", "THREAD FOO UTF-8 ALL", "THREAD REFERENCES UTF-8", "EXPUNGE 1", "UID EXPUNGE", "CLOSE x",
    "FETCH 1 (FLAGS) (CHANGEDSINCE)", "FETCH 1 (FLAGS) (FOO)", "STORE 1 (UNCHANGEDSINCE) FLAGS ()", "UNSELECT x",
    "SEARCH KEYWORD", "SEARCH 1 2 3 (", "STORE 1 (FOO 1) FLAGS ()", "SEARCH CHARSET UTF-8",
])
def test_2_2_bad_command_in_a_selected_mailbox(imap: Imap, box: str, line: str) -> None:
    imap.append(box, MAIL)
    imap.select(box)
    imap.bad(line)
    assert imap.ok("FETCH 1 FLAGS").fetched().keys() == {1}


def test_bad_tags(imap: Imap) -> None:
    imap.wire.send(b"\r\n")
    answer = imap.read()
    assert isinstance(answer, Untagged)
    assert answer.kind == "BAD"
    imap.wire.send(b"a+b NOOP\r\n")  # "+" may not stand in a tag
    answer = imap.read()
    assert isinstance(answer, Untagged)
    assert answer.kind == "BAD"
    for tag in ("A]b", "1.2_3-x", "a'b", "[1]", "A&B=~"):
        imap.wire.send(tag.encode() + b" NOOP\r\n")
        assert imap.until(tag).status == "OK"


def test_case_does_not_matter(imap: Imap, box: str) -> None:
    imap.append(box, MAIL)
    imap.ok(f"sElEcT {box}")
    assert imap.ok("uid fetch 1:* (flags Uid bOdY.pEeK[hEaDeR.fIeLdS (SubJect)])").fetched()
    assert imap.ok("uid search Return (Count) unseen").esearch()["COUNT"] == "1"
    imap.ok("store 1 +flags.silent (\\sEEn)")
    assert "\\Seen" in imap.flags(1)


def test_4_3_literals_everywhere(imap: Imap, box: str) -> None:
    imap.append(box, MAIL)
    name = box.encode()
    assert imap.sync("SELECT ", name).status == "OK"
    assert imap.sync("STATUS ", name, " (MESSAGES)").one("STATUS").values == [box, ["MESSAGES", "1"]]
    assert imap.sync("SEARCH SUBJECT ", b"one").search() == [1]
    assert imap.sync("SEARCH OR SUBJECT ", b"none", " FROM ", b"a@example").search() == [1]
    assert imap.sync("FETCH 1 BODY.PEEK[HEADER.FIELDS (", b"subject", ")]").status == "OK"
    assert imap.sync("LIST ", b"", " ", name).boxes().keys() == {box}
    assert imap.sync("APPEND ", name, " (\\Seen) ", MAIL).status == "OK"
    assert imap.cmd("SEARCH SUBJECT ", b"", " SEEN").search() == [2]


def test_4_3_literal_of_a_refused_command_is_read(imap: Imap) -> None:
    assert imap.no("APPEND nowhere ", MAIL).code == "TRYCREATE"
    imap.bad("FOO ", b"LOGOUT\r\nx LOGOUT\r\n")
    imap.bad("SELECT ", b"a", "b")
    imap.ok("NOOP")


def test_4_3_bad_literals(imap: Imap) -> None:
    for bad in (b"{x}", b"{-1}", b"{1", b"{}", b"{1++}", b"{ 1}"):
        imap.wire.send(b"z SELECT " + bad + b"\r\n")
        assert imap.until("z").status == "BAD"
    imap.ok("NOOP")


def test_rfc7889_literal_too_big_is_refused(imap: Imap, box: str) -> None:
    imap.wire.send(f"z APPEND {box} {{999999999}}\r\n".encode())
    reply = imap.until("z")
    assert (reply.status, reply.code) == ("NO", "TOOBIG")
    imap.wire.send(b"y SELECT {999999999999999999999}\r\n")
    assert imap.until("y").status in ("NO", "BAD")
    imap.ok("NOOP")


def test_5_5_pipelined_commands_are_answered_in_order(imap: Imap, box: str) -> None:
    tags = [imap.start(f"SELECT {box}"), imap.start("NOOP"), imap.start(f"APPEND {box} ", MAIL),
            imap.start("FETCH 1 (UID FLAGS)"), imap.start("FOO"), imap.start("STORE 1 +FLAGS (\\Deleted)"),
            imap.start("EXPUNGE"), imap.start("SEARCH ALL"), imap.start("CLOSE"), imap.start("FETCH 1 FLAGS")]
    replies = [imap.until(tag) for tag in tags]
    assert [reply.status for reply in replies] == ["OK", "OK", "OK", "OK", "BAD", "OK", "OK", "OK", "OK", "BAD"]
    assert replies[3].fetched()[1]["FLAGS"] is not None
    assert replies[6].numbers("EXPUNGE") == [1]
    assert replies[7].search() == []


def test_one_octet_at_a_time(imap: Imap, box: str) -> None:
    for octet in f"a APPEND {box} {{{len(MAIL)}+}}\r\n".encode() + MAIL + b"\r\nb NOOP\r\n":
        imap.wire.send(bytes([octet]))
    assert imap.until("a").status == "OK"
    assert imap.until("b").status == "OK"


def test_long_line(imap: Imap, box: str) -> None:
    """mbsync and others send long sets."""
    imap.append(box, MAIL)
    imap.select(box)
    wide = ",".join(str(number) for number in range(1, 16000, 2))
    assert list(imap.ok(f"UID FETCH {wide} FLAGS").by_uid()) == [1]


def test_6_1_3_logout(imap: Imap) -> None:
    reply = imap.ok("LOGOUT")
    assert [one.kind for one in reply.untagged] == ["BYE"]
    assert imap.wire.at_end()


def test_rfc2971_id(imap: Imap) -> None:
    for arguments in ("NIL", "()", '("name" "Outlook" "version" "16.0")', '("name" NIL)',
                      '("name" "com.apple.mail" "os" "Mac OS X" "x" "")'):
        values = imap.ok(f"ID {arguments}").one("ID").values
        assert values[0] is None or len(values[0]) % 2 == 0
    assert imap.sync("ID (", b"name", " ", b"value", ")").status == "OK"
    imap.bad("ID")
    imap.bad('ID ("name")')


def test_rfc5161_enable(imap: Imap) -> None:
    assert imap.ok("ENABLE CONDSTORE").one("ENABLED").values == ["CONDSTORE"]
    assert imap.ok("ENABLE FOO UTF8=ONLY").one("ENABLED").values == []
    assert "QRESYNC" in imap.ok("enable qresync x-something").one("ENABLED").values


def test_6_1_2_noop_without_news_is_silent(imap: Imap, box: str) -> None:
    imap.select(box)
    assert imap.ok("NOOP").untagged == []
    assert imap.ok("CHECK").untagged == []


def test_6_4_2_unselect_and_6_4_1_close(imap: Imap, box: str) -> None:
    imap.append(box, MAIL, "\\Deleted")
    imap.bad("CLOSE")
    imap.bad("UNSELECT")
    imap.select(box)
    imap.ok("UNSELECT")
    imap.bad("FETCH 1 FLAGS")
    imap.ok(f"EXAMINE {box}")
    imap.ok("CLOSE")
    assert imap.ok(f"STATUS {box} (MESSAGES)").one("STATUS").values[1] == ["MESSAGES", "1"]
    imap.select(box)
    reply = imap.ok("CLOSE")
    assert reply.all("EXPUNGE") == []
    assert imap.ok(f"STATUS {box} (MESSAGES)").one("STATUS").values[1] == ["MESSAGES", "0"]


def test_6_3_2_failed_select_leaves_nothing_selected(imap: Imap, box: str) -> None:
    imap.select(box)
    reply = imap.no("SELECT nowhere-at-all")
    assert reply.code == "NONEXISTENT"
    imap.bad("FETCH 1:* FLAGS")


def test_6_3_13_idle(world: World, box: str) -> None:
    client, other = world.alice(), world.alice()
    client.select(box)
    tag = client.start("IDLE")
    assert client.plus().startswith("+ ")
    assert client.wire.quiet()
    other.append(box, MAIL)
    kinds = {one.kind: one.number for one in client.told(2)}
    assert kinds == {"EXISTS": 1, "RECENT": 1}
    other.select(box)
    other.ok("STORE 1 +FLAGS (\\Flagged)")
    fetch = client.told(1)[0]
    assert (fetch.kind, fetch.number) == ("FETCH", 1)
    other.ok("STORE 1 +FLAGS (\\Deleted)")
    client.told(1)
    other.ok("EXPUNGE")
    gone = client.told(1)[0]
    assert (gone.kind, gone.number) == ("EXPUNGE", 1)
    client.wire.send(b"DONE\r\n")
    assert client.until(tag).status == "OK"
    tag = client.start("IDLE")
    client.plus()
    client.wire.send(b"done\r\n")
    assert client.until(tag).status == "OK"
    tag = client.start("IDLE")
    client.plus()
    client.wire.send(b"NOT DONE\r\n")
    assert client.until(tag).status == "BAD"
    reply = client.ok("NOOP")
    assert isinstance(reply, Reply)


def test_idle_done_in_one_packet(imap: Imap) -> None:
    imap.wire.send(b"a IDLE\r\nDONE\r\nb NOOP\r\n")
    imap.plus()
    assert imap.until("a").status == "OK"
    assert imap.until("b").status == "OK"
