"""SMTP and submission: [RFC 5321], [RFC 1870], [RFC 2920], [RFC 3030], [RFC 3207], [RFC 3461], [RFC 4954], [RFC 6152],
[RFC 6409], [RFC 6531], [RFC 2034], [RFC 9422]; raw, and read back by IMAP."""

from __future__ import annotations

import base64
import itertools
import re
import time

import pytest

from tests.conformance.conftest import World
from tests.conformance.raw import Wire

pytestmark = pytest.mark.island

_NUMBER = itertools.count(1)
_LINE = re.compile(rb"(\d{3})([ -])(.*)\Z")


class Smtp:
    """A raw client: one reply a command, and every line of a reply has its code."""

    def __init__(self, world: World, service: str = "smtp", *, hello: bool = True, tls: bool = True) -> None:
        self.wire = Wire(world.ports[service], world.tls, secure=service == "submissions")
        code, lines = self.reply()
        assert code == 220, lines
        self.features: dict[str, str] = {}
        if hello:
            self.ehlo()
            if tls and service != "submissions":
                assert self.cmd("STARTTLS") == 220
                self.wire.upgrade()
                self.ehlo()

    def reply(self) -> tuple[int, list[str]]:
        lines: list[str] = []
        while True:
            line = self.wire.line()
            match = _LINE.match(line)
            assert match is not None, line
            assert len(line) <= 510, "a reply line over 512 octets [RFC 5321 §4.5.3.1.5]"
            lines.append(match.group(3).decode("utf-8"))
            if match.group(2) == b" ":
                self.text = "\n".join(lines)
                return int(match.group(1)), lines

    def cmd(self, line: str | bytes) -> int:
        self.wire.send((line.encode("utf-8") if isinstance(line, str) else line) + b"\r\n")
        return self.reply()[0]

    def ehlo(self, name: str = "client.example") -> None:
        self.wire.send(f"EHLO {name}\r\n".encode())
        code, lines = self.reply()
        assert code == 250, lines
        self.features = {line.partition(" ")[0].upper(): line.partition(" ")[2] for line in lines[1:]}

    def auth(self, login: tuple[str, str]) -> None:
        secret = base64.b64encode(f"\0{login[0]}\0{login[1]}".encode()).decode()
        assert self.cmd(f"AUTH PLAIN {secret}") == 235, self.text

    def envelope(self, to: str, sender: str = "<a@outside.example>", more: str = "") -> None:
        assert self.cmd(f"MAIL FROM:{sender}{more}") == 250, self.text
        assert self.cmd(f"RCPT TO:<{to}>") == 250, self.text

    def data(self, content: bytes) -> int:
        assert self.cmd("DATA") == 354, self.text
        self.wire.send(content)
        return self.reply()[0]


def subject() -> str:
    return f"conformance-{next(_NUMBER)}-{time.time_ns()}"


def letter(title: str, body: bytes = b"body\r\n", more: bytes = b"") -> bytes:
    return (f"From: a@outside.example\r\nTo: b@example.test\r\nSubject: {title}\r\n".encode() + more + b"\r\n" + body)


def arrived(world: World, title: str, who: str = "alice", seconds: float = 10.0) -> bytes:
    """The message of that subject as IMAP has it."""
    client = world.imap(world.demo(who))
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        client.select("INBOX")
        found = client.ok(f'UID SEARCH HEADER Subject "{title}"').search()
        if found:
            assert len(found) == 1, "delivered twice"
            whole: bytes = client.ok(f"UID FETCH {found[0]} BODY.PEEK[]").by_uid()[found[0]]["BODY[]"]
            return whole
        time.sleep(0.05)
    raise AssertionError(f"{title} did not arrive")


@pytest.fixture
def alice(world: World) -> str:
    return world.demo("alice")[0]


def test_4_1_1_1_ehlo(world: World) -> None:
    for service in ("smtp", "submission"):
        client = Smtp(world, service, tls=False)
        assert {"PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "CHUNKING", "DSN", "ENHANCEDSTATUSCODES", "LIMITS",
                "STARTTLS"} <= client.features.keys()
        assert "AUTH" not in client.features  # not in the clear
        assert int(client.features["SIZE"]) > 10_000_000
        limits = dict(word.split("=") for word in client.features["LIMITS"].split())
        assert int(limits["RCPTMAX"]) >= 100  # [RFC 5321 §4.5.3.1.8]
        assert client.cmd("STARTTLS") == 220
        client.wire.upgrade()
        client.ehlo()
        assert "STARTTLS" not in client.features
        assert ("AUTH" in client.features) == (service == "submission")
    client = Smtp(world, "submissions")
    assert "PLAIN" in client.features["AUTH"].split()
    assert "STARTTLS" not in client.features


def test_4_1_1_1_helo_and_address_literals(world: World) -> None:
    client = Smtp(world, hello=False)
    assert client.cmd("HELO client.example") == 250
    assert len(client.text.splitlines()) == 1
    for name in ("[127.0.0.1]", "[IPv6:::1]", "localhost", "a_b.example", "x"):
        assert client.cmd(f"EHLO {name}") == 250, name
    assert client.cmd("EHLO") == 501
    assert client.cmd("HELO") == 501
    assert client.cmd("ehlo Client.Example") == 250


def test_4_1_4_order(world: World, alice: str) -> None:
    client = Smtp(world, hello=False)
    assert client.cmd("MAIL FROM:<a@b.example>") == 503
    assert client.cmd("NOOP") == 250
    assert client.cmd("RSET") == 250
    client.ehlo()
    assert client.cmd(f"RCPT TO:<{alice}>") == 503
    assert client.cmd("DATA") == 503
    assert client.cmd("MAIL FROM:<a@b.example>") == 250
    assert client.cmd("MAIL FROM:<a@b.example>") == 503
    assert client.cmd("DATA") in (503, 554)
    assert client.cmd(f"RCPT TO:<{alice}>") == 250
    assert client.cmd("RSET") == 250
    assert client.cmd("DATA") == 503
    assert client.cmd("MAIL FROM:<a@b.example>") == 250
    client.ehlo()  # [RFC 5321 §4.1.4] EHLO resets as RSET does
    assert client.cmd("MAIL FROM:<a@b.example>") == 250
    assert client.cmd("QUIT") == 221
    assert client.wire.at_end()


@pytest.mark.parametrize(("line", "codes"), [
    ("FOO", {500, 502}), ("", {500, 501, 502}), ("NOOP anything", {250}), ("HELP", {214}), ("VRFY alice", {252}),
    ("EXPN staff", {252, 502, 550}), ("RSET x", {501}), ("DATA x", {501, 503}), ("MAIL", {501}), ("MAIL FROM", {501}),
    ("MAIL FROM:", {501}), ("MAIL FROM:a@b", {501, 250}), ("MAIL FROM:<a@b", {501}), ("MAIL TO:<a@b>", {501}),
    ("MAIL FROM:<a@b.example> FOO=1", {555, 501, 504}), ("MAIL FROM:<a@b.example> SIZE=x", {501}),
    ("MAIL FROM:<a@b.example> SIZE=99999999999", {552}), ("MAIL FROM:<a@b.example> BODY=FOO", {501, 504, 555}),
    ("MAIL FROM:<a@b.example> SIZE=1 SIZE=2", {501}), ("MAIL FROM:<a b@c.example>", {501, 553}),
    ("TURN", {500, 502}), ("SEND FROM:<a@b>", {500, 502}), ("AUTH PLAIN", {500, 502, 503, 538}), ("BDAT", {501, 503}),
    ("MAIL FROM:<a@b.example> RET=FOO", {501}), ("MAIL FROM:<a@b.example> ENVID=", {501}),
])
def test_4_2_replies_to_odd_commands(world: World, line: str, codes: set[int]) -> None:
    client = Smtp(world)
    assert client.cmd(line) in codes, client.text


@pytest.mark.parametrize("address", [
    "<>", "<a@b.example>", '<"a b"@c.example>', "<a@[127.0.0.1]>", "<a@[IPv6:2001:db8::1]>",
    "<a+tag@b.example>", "<a.b-c_d=e@b.example>", "<!#$%&'*+-/=?^_`{|}~@b.example>", "<a@xn--bcher-kva.example>",
    "<a@b.example> SIZE=100", "<a@b.example> BODY=8BITMIME", "<a@b.example> BODY=7BIT size=10", "<a@b.example> RET=HDRS",
    "<a@b.example> ENVID=QQ314159+2D", "<a@b.example> SMTPUTF8", "<ü@b.example> SMTPUTF8", "<a@bücher.example> SMTPUTF8",
])
def test_4_1_1_2_senders(world: World, address: str) -> None:
    client = Smtp(world)
    assert client.cmd(f"MAIL FROM:{address}") == 250, client.text
    assert client.cmd("RSET") == 250


def test_4_1_1_3_recipients(world: World, alice: str) -> None:
    client = Smtp(world)
    local = alice.partition("@")[0]
    assert client.cmd("MAIL FROM:<a@b.example>") == 250
    for good in (f"<{alice}>", f"<{alice.upper()}>", f'<"{local}"@example.test>', "<postmaster>",
                 "<Postmaster@example.test>", f"<{alice}> NOTIFY=NEVER", f"<{alice}> NOTIFY=SUCCESS,FAILURE,DELAY",
                 f"<{alice}> ORCPT=rfc822;{alice}", f"<{local}+tag@example.test>"):
        assert client.cmd(f"RCPT TO:{good}") == 250, (good, client.text)
    assert client.cmd("RCPT TO:<nobody-at-all@example.test>") == 550
    assert client.text.startswith("5.1.1")
    assert client.cmd("RCPT TO:<a@elsewhere.example>") in (550, 554)
    assert client.text.startswith("5.7.")
    for bad in ("<>", "", "<a", "a b", f"<{alice}> FOO=BAR", f"<{alice}> NOTIFY=", f"<{alice}> NOTIFY=NEVER,DELAY",
                f"<{alice}> NOTIFY=MAYBE", f"<{alice}> ORCPT=x"):
        assert client.cmd(f"RCPT TO:{bad}") in (501, 553, 555, 550), (bad, client.text)


def test_4_1_1_3_source_routes_are_refused(world: World, alice: str) -> None:
    """[RFC 5321 §4.1.1.3] would have the route ignored; here nobody is routed by a stranger's wish."""
    client = Smtp(world)
    assert client.cmd("MAIL FROM:<@hop.example:a@b.example>") == 501
    assert client.cmd("MAIL FROM:<a@b.example>") == 250
    assert client.cmd(f"RCPT TO:<@hop.example:{alice}>") == 501


def test_2034_enhanced_codes(world: World, alice: str) -> None:
    """Every 2, 4 and 5 reply but those to EHLO, HELO and the greeting has one."""
    client = Smtp(world)
    for line in ("MAIL FROM:<a@b.example>", f"RCPT TO:<{alice}>", "RCPT TO:<nobody@example.test>", "FOO", "DATA x", "RSET",
                 "NOOP", "VRFY x", "QUIT"):
        code = client.cmd(line)
        assert re.match(rf"{code // 100}\.\d+\.\d+ ", client.text), (line, code, client.text)


def test_4_5_2_dots_and_the_trace(world: World, alice: str) -> None:
    title = subject()
    client = Smtp(world)
    client.envelope(alice)
    body = b".\r\n..\r\n.one\r\ntwo.\r\n...\r\n" + b"x" * 990 + b"\r\n\r\n"
    stuffed = b"".join(b"." + line if line.startswith(b".") else line for line in body.splitlines(keepends=True))
    assert client.data(letter(title, stuffed) + b".\r\n") == 250
    whole = arrived(world, title)
    head, _, rest = whole.partition(b"\r\n\r\n")
    assert rest == body
    lines = head.split(b"\r\n")
    assert lines[0].lower().startswith(b"return-path: <a@outside.example>")
    assert head.lower().count(b"return-path:") == 1
    received = re.search(rb"(?im)^received: ((?:.*\r\n[ \t])*.*)", head)
    assert received is not None
    trace = received.group(1)
    assert b"from client.example" in trace
    assert b"[127.0.0.1]" in trace or b"[IPv6:::1]" in trace or b"::1" in trace
    assert b"with ESMTPS" in trace
    assert re.search(rb";\s.*\d{4} \d\d:\d\d:\d\d [+-]\d{4}", trace.replace(b"\r\n", b""))


def test_4_1_1_4_end_of_data_is_crlf_dot_crlf_only(world: World, alice: str) -> None:
    """Bare line ends never end a message and are refused (smuggling)."""
    for end in (b"\n.\r\n", b"\r\n.\n", b"\n.\n", b"\r.\r\n", b"\r\n.\r"):
        client = Smtp(world)
        client.envelope(alice)
        title = subject()
        code = client.data(letter(title) + b"x" + end + b"MAIL FROM:<smuggled@b.example>\r\n.\r\n")
        assert code in (250, 500, 521, 550, 554, 552, 553, 501), code
        assert code != 250 or b"smuggled" in arrived(world, title)


def test_several_messages_in_a_connection(world: World, alice: str) -> None:
    client = Smtp(world)
    titles = [subject() for _ in range(3)]
    for title in titles:
        client.envelope(alice)
        assert client.data(letter(title) + b".\r\n") == 250
    for title in titles:
        arrived(world, title)


def test_several_recipients_and_one_refused(world: World, alice: str) -> None:
    title = subject()
    client = Smtp(world)
    bob = world.demo("bob")[0]
    assert client.cmd("MAIL FROM:<>") == 250
    assert client.cmd(f"RCPT TO:<{alice}>") == 250
    assert client.cmd("RCPT TO:<nobody@example.test>") == 550
    assert client.cmd(f"RCPT TO:<{bob}>") == 250
    assert client.cmd(f"RCPT TO:<{alice}>") == 250  # twice: one copy
    assert client.data(letter(title) + b".\r\n") == 250
    assert arrived(world, title).lower().startswith(b"return-path: <>")
    arrived(world, title, "bob")


def test_2920_pipelining(world: World, alice: str) -> None:
    title = subject()
    client = Smtp(world)
    client.wire.send(f"MAIL FROM:<a@b.example>\r\nRCPT TO:<{alice}>\r\nRCPT TO:<nobody@example.test>\r\nDATA\r\n".encode())
    assert [client.reply()[0] for _ in range(4)] == [250, 250, 550, 354]
    client.wire.send(letter(title) + b".\r\nRSET\r\nMAIL FROM:<a@b.example>\r\nQUIT\r\n")
    assert [client.reply()[0] for _ in range(4)] == [250, 250, 250, 221]
    arrived(world, title)


def test_2920_pipelining_all_recipients_refused(world: World) -> None:
    """DATA behind refused recipients: no 354, or 354 and then a refusal; and the next command is in step."""
    client = Smtp(world)
    client.wire.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<nobody@example.test>\r\nDATA\r\n")
    codes = [client.reply()[0] for _ in range(3)]
    assert codes[:2] == [250, 550]
    if codes[2] == 354:
        client.wire.send(b".\r\n")
        assert client.reply()[0] >= 500
    assert client.cmd("RSET") == 250


def test_3030_bdat(world: World, alice: str) -> None:
    title = subject()
    client = Smtp(world)
    client.envelope(alice)
    whole = letter(title, b".no dots are doubled\r\n..\r\nlast\r\n")
    first, second = whole[:20], whole[20:]
    client.wire.send(f"BDAT {len(first)}\r\n".encode() + first)
    assert client.reply()[0] == 250
    client.wire.send(f"BDAT {len(second)}\r\n".encode() + second)
    assert client.reply()[0] == 250
    assert client.cmd("BDAT 0 LAST") == 250
    assert arrived(world, title).endswith(b".no dots are doubled\r\n..\r\nlast\r\n")


def test_3030_bdat_pipelined_and_misplaced(world: World, alice: str) -> None:
    title = subject()
    client = Smtp(world)
    data = letter(title)
    client.wire.send(f"MAIL FROM:<a@b.example>\r\nRCPT TO:<{alice}>\r\nBDAT {len(data)} LAST\r\n".encode() + data
                     + b"NOOP\r\n")
    assert [client.reply()[0] for _ in range(4)] == [250, 250, 250, 250]
    arrived(world, title)
    client.wire.send(b"BDAT 5 LAST\r\nQUIT\rNOOP\r\n")  # five octets are content even when refused
    assert client.reply()[0] == 503
    assert client.reply()[0] == 250 or True
    client = Smtp(world)
    client.envelope(alice)
    client.wire.send(b"BDAT 3\r\nabc")
    assert client.reply()[0] == 250
    assert client.cmd("DATA") == 503  # [RFC 3030 §2] BDAT and DATA do not mix
    assert client.cmd("RSET") == 250


def test_3030_binarymime_needs_bdat(world: World, alice: str) -> None:
    client = Smtp(world)
    if "BINARYMIME" not in client.features:
        pytest.skip("not offered")
    client.envelope(alice, more=" BODY=BINARYMIME")
    assert client.cmd("DATA") == 503
    assert client.cmd("RSET") == 250
    title = subject()
    client.envelope(alice, more=" BODY=BINARYMIME")
    data = letter(title, bytes(range(256)), b"MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n"
                                            b"Content-Transfer-Encoding: binary\r\n")
    client.wire.send(f"BDAT {len(data)} LAST\r\n".encode() + data)
    assert client.reply()[0] == 250
    assert arrived(world, title).endswith(bytes(range(256)))


def test_6152_eight_bit(world: World, alice: str) -> None:
    title = subject()
    client = Smtp(world)
    client.envelope(alice, more=" BODY=8BITMIME")
    assert client.data(letter(title, "schön\r\n".encode()) + b".\r\n") == 250
    assert "schön\r\n".encode() in arrived(world, title)


def test_6531_smtputf8(world: World, alice: str) -> None:
    title = subject()
    client = Smtp(world)
    assert client.cmd("MAIL FROM:<jörg@bücher.example>") in (501, 550, 553)  # without SMTPUTF8
    client.envelope(alice, "<jörg@bücher.example>", " SMTPUTF8")
    assert client.data(f"From: Jörg <jörg@bücher.example>\r\nSubject: {title} ü\r\n\r\nx\r\n.\r\n".encode()) == 250
    whole = arrived(world, title)
    assert "jörg@bücher.example" in whole.decode()
    assert b"UTF8SMTPS" in whole


def test_1870_size(world: World, alice: str) -> None:
    client = Smtp(world)
    limit = int(client.features["SIZE"])
    assert client.cmd(f"MAIL FROM:<a@b.example> SIZE={limit}") == 250
    assert client.cmd("RSET") == 250
    assert client.cmd(f"MAIL FROM:<a@b.example> SIZE={limit + 1}") == 552
    assert alice


def test_3207_starttls(world: World) -> None:
    client = Smtp(world, tls=False)
    assert client.cmd("STARTTLS now") == 501
    assert client.cmd("STARTTLS") == 220
    client.wire.upgrade()
    assert client.cmd("MAIL FROM:<a@b.example>") == 503  # [RFC 3207 §4.2] EHLO is forgotten
    client.ehlo()
    assert client.cmd("STARTTLS") in (503, 554, 502)
    assert client.cmd("MAIL FROM:<a@b.example>") == 250


# submission


def test_6409_mail_needs_auth(world: World) -> None:
    client = Smtp(world, "submission", tls=False)
    assert client.cmd("MAIL FROM:<a@b.example>") == 530
    client = Smtp(world, "submission")
    assert client.cmd("MAIL FROM:<a@b.example>") == 530
    client = Smtp(world, "submissions")
    assert client.cmd("MAIL FROM:<a@b.example>") == 530


def test_4954_auth(world: World, alice: str) -> None:
    login = world.demo("alice")
    client = Smtp(world, "submission", tls=False)
    secret = base64.b64encode(f"\0{login[0]}\0{login[1]}".encode()).decode()
    assert client.cmd(f"AUTH PLAIN {secret}") in (538, 530, 503, 504)
    client = Smtp(world, "submission")
    assert client.cmd("AUTH PLAIN") == 334
    assert client.text == ""
    assert client.cmd("*") == 501
    assert client.cmd("AUTH FOO") == 504
    client = Smtp(world, "submission")
    assert client.cmd("AUTH PLAIN") == 334
    assert client.cmd("!!") == 501
    wrong = base64.b64encode(b"\0" + login[0].encode() + b"\0wrong").decode()
    assert client.cmd(f"AUTH PLAIN {wrong}") == 535
    assert client.cmd("AUTH PLAIN") == 334
    assert client.cmd(secret) == 235
    assert client.text.startswith("2.7.0")
    assert client.cmd(f"AUTH PLAIN {secret}") == 503
    assert client.cmd(f"MAIL FROM:<{alice}> AUTH=<>") == 250
    assert client.cmd("AUTH PLAIN") == 503


def test_4954_auth_login(world: World) -> None:
    name, password = world.demo("alice")
    client = Smtp(world, "submissions")
    assert client.cmd("AUTH LOGIN") == 334
    assert base64.b64decode(client.text).lower().startswith(b"user")
    assert client.cmd(base64.b64encode(name.encode())) == 334
    assert base64.b64decode(client.text).lower().startswith(b"pass")
    assert client.cmd(base64.b64encode(password.encode())) == 235
    client = Smtp(world, "submissions")
    assert client.cmd("AUTH LOGIN " + base64.b64encode(name.encode()).decode()) == 334
    assert client.cmd(base64.b64encode(password.encode())) == 235


def test_6409_submission_delivers_and_completes(world: World, alice: str) -> None:
    """[RFC 6409 §8] Date and Message-ID are added; the sender must be one's own."""
    title = subject()
    client = Smtp(world, "submissions")
    client.auth(world.demo("alice"))
    bob = world.demo("bob")[0]
    assert client.cmd(f"MAIL FROM:<{bob}>") in (550, 553)
    client.envelope(bob, f"<{alice}>")
    assert client.data(f"From: {alice}\r\nTo: {bob}\r\nBcc: secret@example.test\r\nSubject: {title}\r\n\r\nx\r\n"
                       ".\r\n".encode()) == 250
    head = arrived(world, title, "bob").partition(b"\r\n\r\n")[0].lower()
    assert re.search(rb"(?m)^message-id: <[^>\r\n]+@[^>\r\n]+>", head)
    assert re.search(rb"(?m)^date: ", head)
    assert b"with esmtpsa" in head


def test_3461_dsn_success(world: World, alice: str) -> None:
    """NOTIFY=SUCCESS: a report comes to the sender, with its ENVID and ORCPT."""
    title = subject()
    client = Smtp(world, "submissions")
    client.auth(world.demo("bob"))
    bob = world.demo("bob")[0]
    assert client.cmd(f"MAIL FROM:<{bob}> RET=HDRS ENVID=conf+2B{title}") == 250
    assert client.cmd(f"RCPT TO:<{alice}> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Alice@Example.TEST") == 250
    assert client.data(letter(title) + b".\r\n") == 250
    arrived(world, title)
    reader = world.imap(world.demo("bob"))
    deadline = time.monotonic() + 8
    report = b""
    while time.monotonic() < deadline and not report:
        reader.select("INBOX")
        found = reader.ok("UID SEARCH HEADER Content-Type delivery-status").search()
        for uid in reversed(found):
            whole = reader.ok(f"UID FETCH {uid} BODY.PEEK[]").by_uid()[uid]["BODY[]"]
            if title.encode() in whole:
                report = whole
        time.sleep(0.1)
    assert report, "no report of success"
    assert b"multipart/report" in report
    assert re.search(rb"(?im)^original-envelope-id: conf\+" + title.encode(), report)
    assert re.search(rb"(?im)^original-recipient: rfc822;\s*alice@example.test", report)
    assert re.search(rb"(?im)^action: delivered", report)
    assert re.search(rb"(?im)^status: 2\.", report)
    assert report.lower().startswith(b"return-path: <>")


def test_4_5_3_1_limits(world: World, alice: str) -> None:
    client = Smtp(world)
    assert client.cmd("NOOP " + "x" * 500) == 250
    assert client.cmd("MAIL FROM:<" + "a" * 64 + "@" + "b" * 60 + "." + "c" * 60 + ".example>") == 250
    assert client.cmd("RSET") == 250
    assert client.cmd("MAIL FROM:<" + "a" * 400 + "@b.example>") in (500, 501, 553)
    assert client.cmd("NOOP") == 250
    assert client.cmd("MAIL FROM:<a@b.example>") == 250
    for _ in range(100):
        assert client.cmd(f"RCPT TO:<{alice}>") == 250
    client.wire.send(b"NOOP " + b"x" * 100_000 + b"\r\n")
    assert client.reply()[0] == 500


def test_one_octet_at_a_time(world: World, alice: str) -> None:
    title = subject()
    client = Smtp(world)
    client.envelope(alice)
    assert client.cmd("DATA") == 354
    for octet in letter(title, b"..dot\r\n") + b".\r\n":
        client.wire.send(bytes([octet]))
    assert client.reply()[0] == 250
    assert arrived(world, title).endswith(b"\r\n.dot\r\n")
