"""IMAP rows of the attack catalogue: one test per input of each row, named by its id."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import os
import time
from collections.abc import Callable

import pytest

from atoll.directory.server.auth import hashes
from tests.directory.conftest import PASSWORD, House
from tests.protocols.imap.conftest import MESSAGES, Client, Site, house, site

__all__ = ["house", "site"]

CREDENTIALS = b"alice@example.test {%d+}\r\n%b" % (len(PASSWORD), PASSWORD)


def rss() -> int:
    """Octets of this process in memory."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def closed_after(client: Client) -> bytes:
    """What is still heard until the other side closes."""
    return await client.ended()


@pytest.mark.parametrize("tls", [True, False])
async def test_I001_huge_literal_before_sign_in(site: Site, tls: bool) -> None:
    client = await site.connect(tls=tls)
    before = rss()
    client.send(b"a LOGIN {9999999999}\r\n")
    heard = await closed_after(client)
    assert heard.startswith(b"a BAD ")
    assert b"\r\n+" not in heard
    assert rss() - before < 2**22


async def test_I002_huge_nonsync_literal_before_sign_in(site: Site) -> None:
    client = await site.connect()
    before = rss()
    client.send(b"a LOGIN {1073741824+}\r\n" + b"x" * 2**20)
    assert (await closed_after(client)).startswith(b"a BAD ")
    assert rss() - before < 2**23


@pytest.mark.parametrize("literal", [b"{4294967297}", b"{-1}", b"{0x10}", b"{99999999999999999999}", b"{5", b"{}"])
@pytest.mark.parametrize("signed_in", [True, False])
async def test_I003_odd_literals(site: Site, literal: bytes, signed_in: bool) -> None:
    client = await (site.sign_in() if signed_in else site.connect())
    client.send(b"a %b %b\r\n" % (b"CREATE" if signed_in else b"LOGIN", literal))
    assert (await client.line()).startswith((b"a BAD ", b"a NO [TOOBIG] "))


async def test_I004_append_over_the_limit(site: Site) -> None:
    client = await site.sign_in()
    client.send(b"a APPEND INBOX {%d}\r\n" % (site.limits.append + 1))
    assert (await client.line()).startswith(b"a NO [TOOBIG] ")
    assert (await client.ask(b"NOOP"))[-1].split()[1] == b"OK"


async def test_I004_append_over_the_limit_without_waiting(site: Site) -> None:
    client = await site.sign_in()
    client.send(b"a APPEND INBOX {%d+}\r\n" % (site.limits.append + 1))
    heard = await closed_after(client)
    assert heard.startswith(b"a BAD ")
    assert b"* BYE " in heard


@pytest.mark.parametrize("signed_in", [True, False])
async def test_I005_a_million_parentheses(site: Site, signed_in: bool) -> None:
    client = await (site.sign_in() if signed_in else site.connect())
    before = rss()
    client.send(b"a " + b"(" * 1_000_000)
    assert b" BAD " in await closed_after(client)
    assert rss() - before < 2**23


@pytest.mark.parametrize(
    "keys",
    [
        b"NOT " * 10_000 + b"ALL",
        b"OR ALL " * 5000 + b"ALL",
        b"(" * 10_000 + b"ALL" + b")" * 10_000,
        b"NOT " * 101 + b"ALL",
        b"ALL " * 3000 + b"ALL",
    ],
    ids=["not", "or", "parentheses", "just-over", "wide"],
)
async def test_I006_nested_search(site: Site, keys: bytes) -> None:
    client = await site.sign_in()
    await client.ok(b"SELECT INBOX")
    assert (await client.ask(b"SEARCH " + keys))[-1].split()[1] == b"BAD"
    assert (await client.ask(b"NOOP"))[-1].split()[1] == b"OK"


async def test_I006_a_megabyte_of_keys(site: Site) -> None:
    client = await site.sign_in()
    await client.ok(b"SELECT INBOX")
    client.send(b"a SEARCH " + b"ALL " * 250_000 + b"ALL\r\n")
    assert b"a BAD " in await closed_after(client)


@pytest.mark.parametrize("word", [b"a" * 60 + b"b", b"(a+)+$", b".*.*.*.*x", b"[a-z]{1,99}", b"\\\\1"])
@pytest.mark.parametrize("key", [b"TEXT", b"BODY", b"SUBJECT"])
async def test_I007_patterns_are_text(site: Site, key: bytes, word: bytes) -> None:
    await site.put(b"Subject: x\r\n\r\n" + b"a" * 2**20 + b"\r\n" + b"a (a+)+$ b\r\n")
    client = await site.sign_in()
    await client.ok(b"SELECT INBOX")
    start = time.monotonic()
    assert (await client.ask(b'SEARCH %b "%b"' % (key, word)))[-1].split()[1] == b"OK"
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (b"BODY.PEEK[" + b".".join([b"1"] * 1000) + b"]", b"BAD"),
        (b"BODY.PEEK[]<4294967295.4294967295>", b"OK"),
        (b"BODY.PEEK[]<4294967296.1>", b"BAD"),
        (b"(" + b" ".join(b"BODY.PEEK[%d]" % part for part in range(1, 1001)) + b")", b"BAD"),
    ],
    ids=["deep", "partial", "partial-too-big", "many"],
)
async def test_I008_fetch_sections(site: Site, items: bytes, expected: bytes) -> None:
    await site.put(*MESSAGES)
    client = await site.sign_in()
    await client.ok(b"SELECT INBOX")
    found = await client.ask(b"FETCH 1:* " + items)
    assert found[-1].split()[1] == expected
    if expected == b"OK":
        assert all(b" {0}\r\n)" in line for line in found[:-1])


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (b"4294967295:1", b"OK"),
        (b",".join([b"1"] * 30_000), b"OK"),
        (b"*:*", b"OK"),
        (b"0", b"BAD"),
        (b"18446744073709551616", b"BAD"),
        (b"4294967296", b"BAD"),
        (b"1:0", b"BAD"),
        (b"", b"BAD"),
        (b"1,", b"BAD"),
        (b"-1", b"BAD"),
    ],
    ids=["reversed", "many", "stars", "zero", "2^64", "2^32", "to-zero", "empty", "comma", "negative"],
)
async def test_I009_sets(site: Site, numbers: bytes, expected: bytes) -> None:
    await site.put(*MESSAGES)
    client = await site.sign_in()
    await client.ok(b"SELECT INBOX")
    found = await client.ask(b"UID FETCH %b UID" % numbers)
    assert found[-1].split()[1] == expected
    assert len(found) <= 4


async def test_I009_a_set_of_100_000_numbers(site: Site) -> None:
    await site.put(*MESSAGES)
    client = await site.sign_in()
    await client.ok(b"SELECT INBOX")
    client.send(b"a UID FETCH " + b",".join([b"1"] * 100_000) + b" UID\r\n")
    heard = await closed_after(client)
    assert heard.startswith(b"a BAD ")
    assert b"* BYE " in heard


async def test_I010_commands_behind_starttls(site: Site) -> None:
    client = await site.connect(tls=False)
    client.send(b"a STARTTLS\r\nb LOGIN %b\r\n" % CREDENTIALS)
    assert b"b " not in await closed_after(client)


async def test_I010_starttls_itself(site: Site) -> None:
    client = await site.connect(tls=False)
    client.send(b"a STARTTLS\r\n")
    assert (await client.line()).startswith(b"a OK ")
    await client.writer.start_tls(site.trusting, server_hostname="127.0.0.1")
    assert b"AUTH=PLAIN" in (await client.ok(b"CAPABILITY"))[0]
    await client.ok(b"LOGIN " + CREDENTIALS)
    await client.ok(b"SELECT INBOX")


@pytest.mark.parametrize(
    "command",
    [b"LOGIN alice@example.test x", b"LOGIN " + CREDENTIALS, b"AUTHENTICATE PLAIN", b"AUTHENTICATE LOGIN AGE="],
)
async def test_I012_sign_in_in_the_clear(site: Site, command: bytes) -> None:
    client = await site.connect(tls=False)
    capabilities = (await client.ok(b"CAPABILITY"))[0]
    assert b" LOGINDISABLED" in capabilities
    assert b"AUTH=" not in capabilities
    assert b" NO [PRIVACYREQUIRED] " in (await client.ask(command))[-1]


@pytest.mark.parametrize(
    "name",
    [
        b"&",
        b"&A",
        b"&2D0-",
        b"&AAA-",
        b"&AC8-",
        b"&ImE",
        b"..",
        b"../..",
        b"x" * 256,
        b"a/../b",
        b"./a",
        b"a//b",
        b"/a",
        b'"a*b"',
        b'"a%b"',
        b"&ZQMB-",
        b"e&AwE-",
    ],
)
async def test_I013_mailbox_names(site: Site, name: bytes) -> None:
    client = await site.sign_in()
    before = await client.ok(b'LIST "" *')
    answer = (await client.ask(b"CREATE " + name))[-1]
    assert answer.split()[1] == b"BAD" or b" NO [CANNOT] " in answer
    assert await client.ok(b'LIST "" *') == before


async def test_I013_ampersand(site: Site) -> None:
    client = await site.sign_in()
    await client.ok(b"CREATE &-")
    assert b'* LIST (\\HasNoChildren) "/" &-\r\n' in await client.ok(b'LIST "" *')


async def test_I016_no_compression(site: Site) -> None:
    client = await site.sign_in()
    assert b"COMPRESS" not in (await client.ok(b"CAPABILITY"))[0]
    assert (await client.ask(b"COMPRESS DEFLATE"))[-1].split()[1] == b"BAD"


async def test_I017_idle_line_without_an_end(site: Site) -> None:
    client = await site.sign_in()
    client.send(b"a IDLE\r\n")
    assert await client.line() == b"+ idling\r\n"
    client.send(b"x" * (64 * 1024 + 2))
    heard = await closed_after(client)
    assert b"BAD " in heard
    assert b"* BYE " in heard


async def test_I017_idle_too_long(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await site.sign_in()
    client.send(b"a IDLE\r\n")
    assert await client.line() == b"+ idling\r\n"
    server = site.one.server
    for session in server.sessions():
        session.last_active -= server.limits.idle_seconds + 1
    server._sweep()
    assert (await closed_after(client)).startswith(b"* BYE ")


async def test_I017_sessions_that_idle_are_small(site: Site) -> None:
    """Both ends of each are in this process. 10,000 of them: tests/soak/test_idle_soak.py."""
    clients = []
    for count in (20, 120):
        before = rss()
        for _ in range(count):
            clients.append(await site.sign_in())
            await clients[-1].ok(b"SELECT INBOX")
            clients[-1].send(b"a IDLE\r\n")
            assert await clients[-1].line() == b"+ idling\r\n"
    assert rss() - before < 120 * 100 * 1024
    await site.put(MESSAGES[0])
    for client in clients:
        assert await client.line() == b"* 1 EXISTS\r\n"


def plain(*parts: bytes) -> bytes:
    return base64.b64encode(b"\0".join(parts))


@pytest.mark.parametrize("other", [b"bob@example.test", b"carol@example.test", b"nobody@example.test", b"admin", b"*"])
async def test_I018_authzid_of_another(site: Site, other: bytes) -> None:
    client = await site.connect()
    answer = (await client.ask(b"AUTHENTICATE PLAIN " + plain(other, b"alice@example.test", PASSWORD)))[-1]
    assert b" NO [AUTHORIZATIONFAILED] " in answer
    assert (await client.ask(b"SELECT INBOX"))[-1].split()[1] == b"BAD"


def jwt(header: bytes, claims: bytes) -> bytes:
    """A token as a stranger makes it: its signature is nobody's."""
    parts = [base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, claims, b"x" * 32)]
    return b".".join(parts)


@pytest.mark.parametrize(
    "token",
    [
        jwt(b'{"alg":"none"}', b'{"sub":"alice@example.test"}').rpartition(b".")[0] + b".",
        jwt(b'{"alg":"HS256","kid":"../../dev/null"}', b'{"sub":"alice@example.test"}'),
        jwt(b'{"alg":"RS256"}', b'{"sub":"alice@example.test","azp":"../../etc/passwd"}'),
        jwt(b'{"alg":"RS256"}', b'{"sub":"alice@example.test","exp":1}'),
        jwt(b'{"alg":"RS256"}', b'{"sub":"alice@example.test","aud":"another"}'),
        b"{}",
    ],
    ids=["alg-none", "kid-path", "azp-path", "expired", "audience", "empty"],
)
@pytest.mark.parametrize("mechanism", [b"XOAUTH2", b"OAUTHBEARER", b"EXTERNAL", b"ANONYMOUS", b"ATOLL"])
async def test_I018_other_mechanisms(site: Site, mechanism: bytes, token: bytes) -> None:
    client = await site.connect()
    response = b"user=alice@example.test\x01auth=Bearer " + token + b"\x01\x01"
    assert b"AUTH=" + mechanism not in (await client.ok(b"CAPABILITY"))[0]
    answer = (await client.ask(b"AUTHENTICATE %b %b" % (mechanism, base64.b64encode(response))))[-1]
    assert b" NO [CANNOT] " in answer
    assert (await client.ask(b"SELECT INBOX"))[-1].split()[1] == b"BAD"


@pytest.mark.parametrize(
    "login",
    [b"' OR 1=1--", b"*)(uid=*", b"%{user}", b"alic\xc3\xa9", b"a\\x00b", b"x" * 8000, b"alice@example.test' --"],
)
async def test_I020_odd_user_names(site: Site, login: bytes) -> None:
    client = await site.connect()
    answer = (await client.ask(b"LOGIN {%d+}\r\n%b {%d+}\r\n%b" % (len(login), login, len(PASSWORD), PASSWORD)))[-1]
    assert b" NO [AUTHENTICATIONFAILED] " in answer


@pytest.mark.parametrize("login", [b"a\0b", b"x" * 65536])
async def test_I020_user_names_out_of_syntax(site: Site, login: bytes) -> None:
    client = await site.connect()
    client.send(b"a LOGIN {%d+}\r\n%b x\r\n" % (len(login), login))
    assert (await client.line()).startswith(b"a BAD ")


async def test_I021_two_users_in_turn(site: Site) -> None:
    await site.house.parts.register.create_mailbox(
        "dave@example.test", display="", database="db1", hash_=hashes.make(PASSWORD)
    )
    await site.put(MESSAGES[0])
    await site.put(MESSAGES[1], name="carol")
    for _ in range(3):
        for name, message in ((b"alice", MESSAGES[0]), (b"carol", MESSAGES[1])):
            client = await site.sign_in(name)
            await client.ok(b"SELECT INBOX")
            assert message in (await client.ok(b"FETCH 1 BODY.PEEK[]"))[0]


def _turn(token: bytes, at: int) -> bytes:
    return token[:at] + (b"B" if token[at : at + 1] == b"A" else b"A") + token[at + 1 :]


@pytest.mark.parametrize(
    "change",
    [
        lambda token: token,
        lambda token: _turn(token, 30),
        lambda token: _turn(token, len(token) - 3),
        lambda token: token[:-1],
        lambda token: b"A2" + token[2:],
        lambda token: token.rpartition(b".")[0],
    ],
    ids=["used-twice", "payload", "mac", "cut", "version", "no-mac"],
)
async def test_I022_forged_tokens(site: Site, house: House, change: Callable[[bytes], bytes]) -> None:
    signed = await site.proxy.sign_in.password("imap", "alice@example.test", PASSWORD, site_facts())
    token = signed.token.encode()
    for attempt, text in enumerate((token, change(token))):
        if attempt == 0 and text == token and change(token) != token:
            continue
        client = Client(*await asyncio.open_unix_connection(site.one.path))
        site.clients.append(client)
        await client.line()
        client.send(b"a AUTHENTICATE ATOLL " + text + b"\r\n")
        answer = await client.line()
        assert answer.startswith(b"a OK " if attempt == 0 else b"a NO [AUTHENTICATIONFAILED] ")


async def test_I022_a_token_of_another_process(site: Site) -> None:
    signed = await site.proxy.sign_in.password("imap", "bob@example.test", PASSWORD, site_facts())
    client = Client(*await asyncio.open_unix_connection(site.one.path))
    site.clients.append(client)
    await client.line()
    client.send(b"a AUTHENTICATE ATOLL " + signed.token.encode() + b"\r\n")
    assert (await client.line()).startswith(b"a NO [AUTHENTICATIONFAILED] ")


def site_facts() -> object:
    from atoll.directory.client.model import ClientFacts

    return ClientFacts("127.0.0.1")


PRIVATE = b'"Other Users/alice@example.test/INBOX"'
MISSING = b'"Other Users/nobody@example.test/INBOX"'


@pytest.mark.parametrize(
    "command",
    [
        b"SELECT %b",
        b"EXAMINE %b",
        b"STATUS %b (MESSAGES)",
        b"APPEND %b {1+}\r\nx",
        b"SETACL %b carol@example.test lr",
        b"GETACL %b",
        b"MYRIGHTS %b",
        b"LISTRIGHTS %b carol@example.test",
        b"DELETEACL %b alice@example.test",
        b"SUBSCRIBE %b",
        b"DELETE %b",
        b"RENAME %b Mine",
        b"CREATE %b",
        b"GETQUOTAROOT %b",
        b"COPY 1 %b",
        b"MOVE 1 %b",
        b'LIST "" %b',
        b'LSUB "" %b',
        b"UNSUBSCRIBE %b",
        b"UID COPY 1 %b",
        b"UID MOVE 1 %b",
    ],
)
async def test_I023_another_persons_mailbox(site: Site, command: bytes) -> None:
    await site.put(*MESSAGES)
    await site.put(MESSAGES[0], name="carol")
    client = await site.sign_in(b"carol")
    answers = []
    for name in (PRIVATE, MISSING):
        await client.ok(b"SELECT INBOX")
        found = await client.ask(command % name)
        answers.append([line.split(b" ", 1)[1].replace(b"nobody@", b"alice@") for line in found])
    assert answers[0] == answers[1]  # not even that it exists is told
    if command.startswith((b"LIST", b"LSUB", b"UNSUBSCRIBE")):
        assert len(answers[0]) == 1  # nothing is listed, nothing is said of it
    else:
        assert answers[0][-1].startswith(b"NO [")


@pytest.mark.parametrize(
    "command",
    [
        b"GETMETADATA %b (/private/comment)",
        b'SETMETADATA %b (/private/comment "x")',
        b"NOTIFY SET (mailboxes %b (MessageNew))",
        b"ESEARCH IN (mailboxes %b) ALL",
        b'GENURLAUTH "imap://alice@example.test/INBOX;uid=1;urlauth=anonymous" INTERNAL',
        b'URLFETCH "imap://alice@example.test/INBOX;uid=1;urlauth=anonymous:internal:00"',
    ],
)
async def test_I023_ways_that_are_not_offered(site: Site, command: bytes) -> None:
    await site.put(*MESSAGES)
    client = await site.sign_in(b"carol")
    word = command.split()[0]
    assert word not in b" ".join(await client.ok(b"CAPABILITY")).replace(b"ESEARCH ", b"")
    name = command.replace(b"%b", PRIVATE)
    assert [line.split(b" ", 1)[1] for line in await client.ask(name)] == [b"BAD Unknown command\r\n"]


@pytest.mark.parametrize(
    "line", [b"a NO\xffOP\r\n", b"a NO\0OP\r\n", b"a NOOP\rb NOOP\r\n", b"a NOOP\nb NOOP\r\n", b"\xff\xfe NOOP\r\n"]
)
@pytest.mark.parametrize("signed_in", [True, False])
async def test_I024_octets_that_do_not_belong(site: Site, line: bytes, signed_in: bool) -> None:
    client = await (site.sign_in() if signed_in else site.connect())
    client.send(line + b"z NOOP\r\n")
    assert b" BAD " in await client.line()
    assert (await client.line()).startswith(b"z OK ")


async def test_I024_bare_lf_is_no_end_of_line(site: Site) -> None:
    client = await site.connect()
    client.send(b"a NOOP\n")
    await asyncio.sleep(0.1)
    client.send(b"b LOGOUT\r\n")
    heard = await client.line()
    assert heard.startswith(b"a BAD ")


async def test_I026_the_last_of_many_is_bad(site: Site) -> None:
    client = await site.sign_in()
    answer = await client.ask(b"APPEND INBOX" + b" {1+}\r\nx" * 999 + b' "not a message"')
    assert answer[-1].split()[1] == b"BAD"
    assert b"MESSAGES 0" in (await client.ok(b"STATUS INBOX (MESSAGES)"))[0]


async def test_I026_the_last_of_many_has_a_bad_flag(site: Site) -> None:
    client = await site.sign_in()
    answer = await client.ask(b"APPEND INBOX" + b" {1+}\r\nx" * 99 + b" (\\Nonsense) {1+}\r\nx")
    assert answer[-1].split()[1] == b"BAD"
    assert b"MESSAGES 0" in (await client.ok(b"STATUS INBOX (MESSAGES)"))[0]


async def test_I026_catenate_is_not_offered(site: Site) -> None:
    client = await site.sign_in()
    answer = await client.ask(b'APPEND INBOX CATENATE (URL "/Other Users/bob@example.test/INBOX/;UID=1")')
    assert answer[-1].split()[1] == b"BAD"


@pytest.mark.parametrize("target", [b'"Other Users"', b'""', b'"Recoverable Items"', b"nothere"])
async def test_I026_append_where_nothing_can_be(site: Site, target: bytes) -> None:
    client = await site.sign_in()
    assert (await client.ask(b"APPEND %b {1+}\r\nx" % target))[-1].split()[1] in (b"NO", b"BAD")


async def test_I004_many_large_messages_at_once(site: Site) -> None:
    site.one.server.limits = dataclasses.replace(site.limits, in_flight=3_000_000)
    clients = [await site.sign_in() for _ in range(4)]
    answers = []
    for client in clients:
        client.send(b"a APPEND INBOX {2000000}\r\n")
        answers.append((await client.line()).split(b" ")[0:3])
    assert [answer[0] for answer in answers] == [b"+", b"+", b"a", b"a"]
    assert answers[2][2] == b"[LIMIT]"
    await clients[3].ok(b"APPEND INBOX {1+}\r\nx")
    for client in clients:
        client.writer.close()
    await asyncio.sleep(0.2)
    assert site.one.server.held == 0


async def test_I022_a_good_token_from_a_process_that_is_no_frontend(site: Site) -> None:
    site.one.server._admit = lambda peer: False
    signed = await site.proxy.sign_in.password("imap", "alice@example.test", PASSWORD, site_facts())
    client = Client(*await asyncio.open_unix_connection(site.one.path))
    site.clients.append(client)
    await client.line()
    client.send(b"a AUTHENTICATE ATOLL " + signed.token.encode() + b"\r\n")
    assert (await client.line()).startswith(b"a NO [AUTHENTICATIONFAILED] ")
