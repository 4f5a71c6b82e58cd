"""POP3: [RFC 1939], [RFC 2449], [RFC 2595], [RFC 5034], [RFC 3206]; raw. UTF8 of RFC 6856 is not offered."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from tests.conformance.conftest import World
from tests.conformance.raw import Wire

pytestmark = pytest.mark.island

SMALL = b"From: a@b.example\r\nSubject: small\r\n\r\nline one\r\nline two\r\nline three\r\n"
DOTS = b"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\ny.\r\n\r\n"
BARE = b"Subject: no line end at the end\r\n\r\nlast"


class Pop:
    """A raw client: +OK or -ERR, and lists that end with a dot."""

    def __init__(self, world: World, *, secure: bool = True) -> None:
        self.wire = Wire(world.ports["pop3s" if secure else "pop3"], world.tls, secure=secure)
        self.greeting = self.status()

    def status(self) -> str:
        line = self.wire.line()
        assert len(line) <= 510, "a status line of more than 512 octets [RFC 1939 §3]"
        text = line.decode("utf-8")
        assert re.match(r"(\+OK|-ERR)( |\Z)", text), text
        return text

    def cmd(self, line: str | bytes) -> str:
        self.wire.send((line if isinstance(line, bytes) else line.encode()) + b"\r\n")
        return self.status()

    def ok(self, line: str) -> str:
        said = self.cmd(line)
        assert said.startswith("+OK"), (line, said)
        return said[4:]

    def err(self, line: str) -> str:
        said = self.cmd(line)
        assert said.startswith("-ERR"), (line, said)
        return said[5:]

    def lines(self) -> list[bytes]:
        """A multi-line answer, dots taken off."""
        found: list[bytes] = []
        while (line := self.wire.line()) != b".":
            found.append(line[1:] if line.startswith(b".") else line)
        return found

    def many(self, line: str) -> list[bytes]:
        self.ok(line)
        return self.lines()

    def login(self, login: tuple[str, str]) -> None:
        self.ok(f"USER {login[0]}")
        self.ok(f"PASS {login[1]}")


@pytest.fixture
def person(world: World) -> tuple[str, str]:
    """A new person with three messages in INBOX."""
    login = world.account("pop")
    client = world.imap(login)
    for mail in (SMALL, DOTS, BARE):
        client.append("INBOX", mail)
    return login


@pytest.fixture
def pop(world: World, person: tuple[str, str]) -> Pop:
    client = Pop(world)
    client.login(person)
    return client


def test_2449_capa(world: World, person: tuple[str, str]) -> None:
    clear = Pop(world, secure=False)
    before = {line.split()[0] for line in clear.many("CAPA")}
    assert {b"STLS", b"TOP", b"UIDL", b"RESP-CODES", b"PIPELINING"} <= before
    assert b"SASL" not in before
    assert b"USER" not in before
    assert clear.err(f"USER {person[0]}")
    clear.ok("STLS")
    clear.wire.upgrade()
    lines = clear.many("CAPA")
    words = {line.split()[0] for line in lines}
    assert {b"USER", b"SASL", b"TOP", b"UIDL", b"RESP-CODES", b"AUTH-RESP-CODE", b"PIPELINING"} <= words
    assert b"STLS" not in words
    assert clear.err("STLS")
    clear.login(person)
    after = clear.many("CAPA")
    assert {b"TOP", b"UIDL"} <= {line.split()[0] for line in after}


def test_7_greeting_and_user_pass(world: World, person: tuple[str, str]) -> None:
    client = Pop(world)
    assert client.greeting.startswith("+OK")
    client.err("STAT")
    client.err("LIST")
    client.err("PASS x")
    client.err("NOOP")
    client.ok(f"USER {person[0]}")
    assert client.err("PASS wrong").startswith("[AUTH]")  # [RFC 3206 §4]
    client.login(person)
    client.err(f"USER {person[0]}")
    client.ok("QUIT")
    assert client.wire.at_end()
    client = Pop(world)
    client.ok("USER nobody@example.test")  # no word about who exists
    assert client.err("PASS x").startswith("[AUTH]")
    client = Pop(world)
    client.ok("QUIT")
    assert client.wire.at_end()


def test_1939_apop_is_not_offered_or_works(world: World, person: tuple[str, str]) -> None:
    client = Pop(world)
    stamp = re.search(r"<[^>]+@[^>]+>", client.greeting)
    if stamp is None:
        client.err("APOP a b")
    else:
        digest = hashlib.md5((stamp.group() + person[1]).encode()).hexdigest()
        client.ok(f"APOP {person[0]} {digest}")


def test_passwords_with_spaces_are_whole_lines(world: World) -> None:
    client = Pop(world)
    client.ok(f"USER {world.demo('alice')[0]}")
    assert client.err("PASS a b c").startswith("[AUTH]")


def test_5034_auth(world: World, person: tuple[str, str]) -> None:
    secret = base64.b64encode(f"\0{person[0]}\0{person[1]}".encode()).decode()
    client = Pop(world)
    sasl = next(line for line in client.many("CAPA") if line.startswith(b"SASL"))
    assert b"PLAIN" in sasl.split()
    client.ok(f"AUTH PLAIN {secret}")
    client = Pop(world)
    client.wire.send(b"AUTH PLAIN\r\n")
    assert client.wire.line() == b"+ "
    client.wire.send(b"*\r\n")
    assert client.status().startswith("-ERR")
    client.wire.send(b"AUTH PLAIN\r\n")
    client.wire.line()
    client.wire.send(b"!!!\r\n")
    assert client.status().startswith("-ERR")
    client.err("AUTH FOO")
    client.wire.send(b"AUTH PLAIN\r\n")
    assert client.wire.line() == b"+ "
    client.wire.send(secret.encode() + b"\r\n")
    assert client.status().startswith("+OK")
    client.ok("STAT")


def test_5034_authzid_of_a_mailbox_that_may_not_be_opened(world: World, person: tuple[str, str]) -> None:
    secret = base64.b64encode(f"{world.demo('bob')[0]}\0{person[0]}\0{person[1]}".encode()).decode()
    assert Pop(world).err(f"AUTH PLAIN {secret}").startswith(("[AUTH]", "[SYS/PERM]"))


def test_5_stat_list_uidl(pop: Pop) -> None:
    sizes = [len(SMALL), len(DOTS), len(BARE)]
    count, total = pop.ok("STAT").split()[:2]
    listed = [line.split() for line in pop.many("LIST")]
    assert [int(number) for number, _ in listed] == [1, 2, 3]
    told = [int(size) for _, size in listed]
    assert (int(count), int(total)) == (3, sum(told))
    assert told[:2] == sizes[:2]
    assert told[2] in (sizes[2], sizes[2] + 2)  # as it is sent, with a line end
    assert pop.ok("LIST 2").split()[:2] == ["2", str(sizes[1])]
    ids = [line.split() for line in pop.many("UIDL")]
    assert [number for number, _ in ids] == [b"1", b"2", b"3"]
    assert len({ident for _, ident in ids}) == 3
    assert all(re.fullmatch(rb"[!-~]{1,70}", ident) for _, ident in ids)
    assert pop.ok("UIDL 3").split()[1].encode() == ids[2][1]


def test_7_uidl_stays(world: World, person: tuple[str, str]) -> None:
    seen = []
    for _ in range(2):
        client = Pop(world)
        client.login(person)
        seen.append(client.many("UIDL"))
        client.ok("QUIT")
    assert seen[0] == seen[1]


@pytest.mark.parametrize("line", ["LIST 0", "LIST 4", "LIST x", "LIST -1", "LIST 1 2", "RETR", "RETR 0", "RETR 4", "RETR x",
                                  "DELE", "DELE 9", "UIDL 0", "UIDL x", "TOP", "TOP 1", "TOP 0 1", "TOP 1 x", "TOP 1 -1",
                                  "FOO", "", "LIST 99999999999999999999", "RETR 1 2", "AUTH PLAIN", "STLS"])
def test_3_errors_leave_the_session_in_step(pop: Pop, line: str) -> None:
    pop.err(line)
    pop.ok("NOOP")


def test_5_retr_and_dots(pop: Pop) -> None:
    assert b"\r\n".join(pop.many("RETR 1")) + b"\r\n" == SMALL
    assert b"\r\n".join(pop.many("RETR 2")) + b"\r\n" == DOTS
    assert b"\r\n".join(pop.many("RETR 3")) == BARE
    assert pop.many("retr 1") == pop.many("Retr 01") if pop.cmd("LIST 01").startswith("+OK") else True


def test_7_top(pop: Pop) -> None:
    assert pop.many("TOP 1 0") == [b"From: a@b.example", b"Subject: small", b""]
    assert pop.many("TOP 1 2") == [b"From: a@b.example", b"Subject: small", b"", b"line one", b"line two"]
    assert b"\r\n".join(pop.many("TOP 1 999")) + b"\r\n" == SMALL
    assert pop.many("TOP 2 2") == [b"Subject: dots", b"", b".", b".."]


def test_5_dele_rset_quit(world: World, person: tuple[str, str]) -> None:
    client = Pop(world)
    client.login(person)
    client.ok("DELE 2")
    client.err("DELE 2")
    client.err("RETR 2")
    client.err("LIST 2")
    client.err("UIDL 2")
    client.err("TOP 2 0")
    assert client.ok("STAT").split()[0] == "2"
    assert [line.split()[0] for line in client.many("LIST")] == [b"1", b"3"]
    client.ok("RSET")
    assert client.ok("STAT").split()[0] == "3"
    client.ok("DELE 1")
    client.ok("DELE 3")
    client.ok("QUIT")
    assert client.wire.at_end()
    client = Pop(world)
    client.login(person)
    assert client.ok("STAT").split()[0] == "1"
    assert b"\r\n".join(client.many("RETR 1")) + b"\r\n" == DOTS


def test_6_no_quit_no_deletion(world: World, person: tuple[str, str]) -> None:
    client = Pop(world)
    client.login(person)
    client.ok("DELE 1")
    client.wire.close()
    client = Pop(world)
    client.login(person)
    assert client.ok("STAT").split()[0] == "3"


def test_2449_pipelining(world: World, person: tuple[str, str]) -> None:
    client = Pop(world)
    client.wire.send(f"USER {person[0]}\r\nPASS {person[1]}\r\nSTAT\r\nUIDL\r\nRETR 1\r\nDELE 1\r\nNOOP\r\nQUIT\r\n".encode())
    for _ in range(3):
        assert client.status().startswith("+OK")
    assert client.status().startswith("+OK")
    assert len(client.lines()) == 3
    assert client.status().startswith("+OK")
    assert b"\r\n".join(client.lines()) + b"\r\n" == SMALL
    for _ in range(3):
        assert client.status().startswith("+OK")
    assert client.wire.at_end()


def test_a_message_gone_by_imap_keeps_its_number(world: World, person: tuple[str, str], pop: Pop) -> None:
    """The drop is as it was at sign-in: numbers do not move [RFC 1939 §5]."""
    other = world.imap(person)
    other.select("INBOX")
    other.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
    other.ok("EXPUNGE")
    other.append("INBOX", SMALL)
    assert [line.split()[0] for line in pop.many("LIST")][-1] == b"3"
    assert b"\r\n".join(pop.many("RETR 2")) + b"\r\n" == DOTS
    assert pop.cmd("RETR 1")[:4] in ("-ERR", "+OK ")


def test_a_second_session(world: World, person: tuple[str, str], pop: Pop) -> None:
    """[RFC 1939 §3] an exclusive lock is asked for; [IN-USE] says so [RFC 2449 §8.1.1]. Or both may read."""
    second = Pop(world)
    second.ok(f"USER {person[0]}")
    said = second.cmd(f"PASS {person[1]}")
    assert said.startswith(("+OK", "-ERR [IN-USE]"))
    pop.ok("NOOP")


def test_large_message(world: World) -> None:
    login = world.account("large")
    mail = b"Subject: large\r\n\r\n" + b"".join(b".%d\r\n" % number + b"x" * 70 + b"\r\n" for number in range(30_000))
    world.imap(login).append("INBOX", mail)
    client = Pop(world)
    client.login(login)
    assert b"\r\n".join(client.many("RETR 1")) + b"\r\n" == mail
    assert client.many("TOP 1 1")[-1] == b".0"


def test_long_lines_and_octets(world: World, person: tuple[str, str]) -> None:
    client = Pop(world)
    client.wire.send(b"USER " + b"x" * 100_000 + b"\r\n")
    assert client.status().startswith("-ERR")
    client = Pop(world)
    for octet in f"USER {person[0]}\r\nPASS {person[1]}\r\n".encode():
        client.wire.send(bytes([octet]))
    assert client.status().startswith("+OK")
    assert client.status().startswith("+OK")


def test_empty_maildrop(world: World) -> None:
    client = Pop(world)
    client.login(world.account("empty"))
    assert client.ok("STAT").split()[:2] == ["0", "0"]
    assert client.many("LIST") == []
    assert client.many("UIDL") == []
    client.err("RETR 1")
    client.ok("QUIT")
