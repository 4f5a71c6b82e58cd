"""What clients of the three ports say and are answered, over real sockets, with everything behind."""

from __future__ import annotations

import asyncio
import re
import smtplib
from base64 import b64encode

import pytest

from atoll.formats.smtp import replies
from atoll.protocols.smtp import connection
from tests.directory.conftest import PASSWORD
from tests.transport.conftest import closed_office, house, office
from tests.transport.kit import limits

__all__ = ["closed_office", "house", "office"]
ALICE, BOB = "alice@example.test", "bob@example.test"


async def test_extensions_of_25(office):
    client = await office.connect(hello=False)
    said = await client.say(b"EHLO client.example")
    words = [line[4:].decode() for line in said.splitlines()]
    assert words == [
        "mail.example.test", "PIPELINING", "SIZE 1048576", "8BITMIME", "SMTPUTF8", "CHUNKING", "BINARYMIME", "DSN",
        "ENHANCEDSTATUSCODES", "LIMITS MAILMAX=10000 RCPTMAX=1000", "STARTTLS"]
    assert b"AUTH" not in await client.tls(office.trust)


async def test_auth_is_offered_under_tls_only(office):
    client = await office.connect("submission", hello=False)
    assert b"AUTH" not in await client.say(b"EHLO x")
    assert b"AUTH PLAIN LOGIN" in await client.tls(office.trust)


async def test_message_is_stored_as_it_came(office):
    client = await office.connect()
    assert (await client.mail(b"Subject: one\r\n\r\n..dot\r\nlast\r\n", ALICE)).startswith(b"250 2.0.0 Ok ")
    (stored,) = await office.held()
    assert re.fullmatch(
        rb"Return-Path: <a@out.example>\r\n"
        rb"Received: from client.example \(\[127.0.0.1\]\)\r\n\tby mail.example.test with ESMTP id [a-z2-7]{26}\r\n"
        rb"\tfor <alice@example.test>;\r\n\t\w\w\w, \d\d? \w\w\w \d{4} [\d:]{8} [+-]\d{4}\r\n"
        rb"Subject: one\r\n\r\n.dot\r\nlast\r\n", stored)


async def test_the_id_in_received_is_the_message_s(office):
    client = await office.connect()
    said = await client.mail(b"\r\n", ALICE)
    (stored,) = await office.held()
    assert said.split()[-1] in stored


async def test_pipelined_transactions_are_answered_in_order(office):
    client = await office.connect()
    one = b"MAIL FROM:<a@out.example>\r\nRCPT TO:<%s>\r\nRCPT TO:<nobody@example.test>\r\nBDAT 5 LAST\r\nx: 1\r"
    client.send(b"".join((one + b"\n") .replace(b"BDAT 5", b"BDAT 6") % who for who in (b"alice@example.test",
                                                                                    b"bob@example.test")))
    codes = [(await client.reply())[:3] for _ in range(8)]
    assert codes == [b"250", b"250", b"550", b"250"] * 2
    assert [len(await office.held(name)) for name in ("alice", "bob")] == [1, 1]


async def test_many_refused_messages_in_one_write_do_not_nest(office):
    client = await office.connect()
    one = b"MAIL FROM:<a@out.example>\r\nRCPT TO:<alice@example.test>\r\nBDAT 2 LAST\r\n\n\n"
    client.send(one * 900)
    for _ in range(900):
        assert (await client.reply())[:3] == b"250"
        assert (await client.reply())[:3] == b"250"
        assert (await client.reply()).startswith(b"550 5.5.2")
    assert await office.held() == []


@pytest.mark.parametrize("size", [100_000, 300_000, 900_000])
@pytest.mark.parametrize("how", ["DATA", "BDAT", "chunks"])
async def test_large_messages_arrive_whole(office, size, how):
    body = b"".join(b"%07d" % at + b"." * 65 + b"\r\n" for at in range(size // 74))
    client = await office.connect()
    await client.envelope(ALICE, BOB)
    if how == "DATA":
        assert (await client.say(b"DATA")).startswith(b"354")
        client.send(b"\r\n" + body.replace(b"\r\n.", b"\r\n..") + b".\r\n")
    elif how == "BDAT":
        client.send(b"BDAT %d LAST\r\n\r\n" % (len(body) + 2) + body)
    else:
        data = b"\r\n" + body
        for at in range(0, len(data), 30_001):
            piece = data[at : at + 30_001]
            client.send(b"BDAT %d\r\n" % len(piece) + piece)
            assert (await client.reply()).startswith(b"250 2.0.0 ")
        client.send(b"BDAT 0 LAST\r\n")
    assert (await client.reply()).startswith(b"250 2.0.0 Ok")
    for name in ("alice", "bob"):
        (stored,) = await office.held(name)
        assert stored.partition(b"\r\n\r\n")[2] == body


async def test_submission_by_smtplib(office):
    def send():
        with smtplib.SMTP("127.0.0.1", office.ports["submission"], timeout=10) as smtp:
            smtp.starttls(context=office.trust)
            smtp.login(ALICE, PASSWORD.decode())
            smtp.sendmail(ALICE, [BOB, ALICE], "Subject: to both\r\n\r\nbody\r\n")
            with pytest.raises(smtplib.SMTPSenderRefused, match=r"5\.7\.60"):
                smtp.sendmail(BOB, [BOB], "Subject: forged\r\n\r\nbody\r\n")
            smtp.sendmail(ALICE, [BOB], "Subject: again\r\n\r\nbody\r\n")
    await asyncio.to_thread(send)
    first, second = await office.held("bob")
    assert b"Subject: to both" in first
    assert re.search(rb"with ESMTPSA \(TLSv1.3 \w+\) id", first)
    assert b"for <" not in first  # nobody learns of the others
    assert b"Subject: again" in second
    assert len(await office.held("alice")) == 1


async def test_auth_login(office):
    client = await office.connect("submissions")
    assert await client.say(b"AUTH LOGIN") == b"334 VXNlcm5hbWU6\r\n"
    assert await client.say(b64encode(ALICE.encode())) == b"334 UGFzc3dvcmQ6\r\n"
    assert (await client.say(b64encode(PASSWORD))).startswith(b"235 2.7.0")
    assert (await client.say(b"AUTH LOGIN")).startswith(b"503 ")


async def test_refused_content_leaves_a_submission_session_usable(office):
    client = await office.signed_in()
    assert (await client.mail(b"a\nb\r\n", ALICE, sender=ALICE)).startswith(b"550 5.5.2")
    assert (await client.mail(b"Subject: fine\r\n\r\n", ALICE, sender=ALICE)).startswith(b"250 ")
    await client.envelope(BOB, sender=ALICE)
    assert (await client.say(b"RSET")).startswith(b"250")
    assert (await client.mail(b"Subject: fine\r\n\r\n", BOB, sender=ALICE)).startswith(b"250 ")


async def test_streamed_content_that_turns_bad_is_refused_once(office):
    client = await office.connect()
    await client.envelope(ALICE)
    await client.say(b"DATA")
    client.send(b"x" * 70 + b"\r\n")
    client.send((b"y" * 70 + b"\r\n") * 8000 + b"bare\nfeed\r\n" + (b"z" * 70 + b"\r\n") * 4000 + b".\r\nNOOP\r\n")
    assert (await client.reply()).startswith(b"550 5.5.2")
    assert (await client.reply()).startswith(b"250 ")
    assert await office.held() == []
    assert (await client.mail(b"\r\n", ALICE)).startswith(b"250 ")


async def test_revocation_ends_a_submission_session(office, house):
    client = await office.signed_in()
    bobs = await office.signed_in("bob")
    await house.parts.register.enable_mailbox(ALICE, on=False)
    assert (await client.rest(1)) == [b"421 4.3.2 Shutting down\r\n"]
    assert (await bobs.mail(b"\r\n", ALICE, sender=BOB)).startswith(b"250 ")


async def test_utf8_addresses(office):
    client = await office.connect()
    assert (await client.mail(b"\r\n", ALICE, sender="a@out.example")).startswith(b"250")
    await client.envelope(ALICE, sender="grüße@müller.example", more=" SMTPUTF8")
    await client.say(b"DATA")
    assert (await client.say("Subject: ü\r\n\r\n.".encode())).startswith(b"250 ")
    _, stored = await office.held()
    assert stored.startswith("Return-Path: <grüße@müller.example>\r\n".encode())
    assert b"with UTF8SMTP id" in stored


async def test_binarymime_by_bdat_only(office):
    client = await office.connect()
    await client.envelope(ALICE, more=" BODY=BINARYMIME")
    assert (await client.say(b"DATA")).startswith(b"503 ")
    content = b"Content-Transfer-Encoding: binary\r\n\r\n\0\n\r\xff"
    client.send(b"BDAT %d LAST\r\n" % len(content) + content)
    assert (await client.reply()).startswith(b"250 ")
    assert (await office.held())[0].endswith(content)


async def test_chunks_beyond_the_limit_are_refused_as_they_come(closed_office):
    """[RFC 3030 §2]: the chunk that is too much is refused, and what was sent behind it, not the last one only."""
    office = closed_office
    office.limits = limits(message=1000)
    await office.start()
    client = await office.connect()
    await client.envelope(ALICE)
    client.send(b"BDAT 600\r\n" + b"\r\n" * 300 + (b"BDAT 600\r\n" + b"\r\n" * 300) * 2 + b"BDAT 0 LAST\r\nNOOP\r\n")
    said = [(await client.reply())[:9] for _ in range(5)]
    assert said == [b"250 2.0.0", b"552 5.3.4", b"503 5.5.1", b"503 5.5.1", b"250 2.0.0"]
    assert (await client.say(b"RSET")).startswith(b"250 ")
    await client.envelope(ALICE)
    client.send(b"BDAT 2 LAST\r\n\r\n")
    assert (await client.reply()).startswith(b"250 ")
    assert len(await office.held()) == 1


async def test_a_mechanism_must_be_named(office):
    client = await office.connect("submissions")
    assert (await client.say(b"AUTH")).startswith(b"501 5.5.4 ")
    assert (await client.say(b"AUTH FOO")).startswith(b"504 5.5.4 ")
    client = await office.connect()
    assert b"587" in await client.say(b"AUTH PLAIN AGEAYg==")  # what to do instead


@pytest.mark.parametrize(("lines", "code"), [
    ([b"MAIL FROM:<a@b.example>"], b"503 5.5.1"),
    ([b"EHLO x", b"RCPT TO:<alice@example.test>"], b"503 5.5.1"),
    ([b"EHLO x", b"DATA"], b"503 5.5.1"),
    ([b"EHLO x", b"MAIL FROM:<a@b.example>", b"MAIL FROM:<a@b.example>"], b"503 5.5.1"),
    ([b"EHLO x", b"MAIL FROM:<a@b.example>", b"DATA"], b"554 5.5.1"),
    ([b"EHLO x", b"MAIL FROM:<a@b.example>", b"STARTTLS"], b"503 5.5.1"),
    ([b"EHLO x", b"MAIL FROM:<a@b.example> FOO=1"], b"555 5.5.4"),
    ([b"EHLO x", b"MAIL FROM:a@b.example"], b"501 5.1.7"),
    ([b"EHLO x", b"MAIL FROM:<a@b.example>", b"RCPT TO:<>"], b"501 5.1.3"),
    ([b"EHLO"], b"501 5.5.4"),
    ([b"EHLO x", b"FOO"], b"500 5.5.1"),
    ([b"EHLO x", b"AUTH PLAIN"], b"500 5.5.1"),
    ([b"HELO x", b"MAIL FROM:<>", b"RCPT TO:<alice@example.test>"], b"250 2.0.0"),
    ([b"ehlo x", b"mail from: <a@b.example> size=10 body=8bitmime", b"rcpt to:<ALICE@Example.Test> notify=never"],
     b"250 2.0.0"),
    ([b"EHLO x", b"MAIL FROM:<a@b.example> AUTH=<>"], b"250 2.0.0"),
    ([b"EHLO x", b"MAIL FROM:<a@b.example>", b"BDAT 0", b"RCPT TO:<alice@example.test>"], b"503 5.5.1"),
    ([b"EHLO x", b"NOOP hello"], b"250 2.0.0"),
    ([b"EHLO x", b"HELP"], b"214 2.0.0"),
    ([b"EHLO x", b"VRFY"], b"501 5.5.4"),
    ([b"EHLO x", b"VRFY alice"], b"252 2.1.5"),
    ([b"EHLO x", b"EXPN team"], b"502 5.5.1"),
])
async def test_answers(office, lines, code):
    client = await office.connect(hello=False)
    for line in lines:
        said = await client.say(line)
    assert said.startswith(code), said


async def test_submission_needs_tls_and_sign_in(office):
    client = await office.connect("submission")
    assert (await client.say(b"MAIL FROM:<alice@example.test>")).startswith(b"530 5.7.0 Must issue a STARTTLS")
    await client.tls(office.trust)
    assert (await client.say(b"MAIL FROM:<alice@example.test>")).startswith(b"530 5.7.0 Authentication required")


async def test_other_domains_are_refused_with_the_reason(office):
    for client, sender in ((await office.connect(), "a@out.example"), (await office.signed_in(), ALICE)):
        await client.say(f"MAIL FROM:<{sender}>".encode())
        said = await client.say(b"RCPT TO:<someone@elsewhere.example>")
        assert said == b"550 5.7.1 This server does not send to other domains: local recipients only\r\n"


@pytest.mark.parametrize("name", ["postmaster", "Postmaster", "postmaster@example.test", "POSTMASTER@EXAMPLE.TEST"])
async def test_postmaster_is_there(office, name):
    """[RFC 5321 §4.5.1]"""
    client = await office.connect()
    assert (await client.mail(b"Subject: help\r\n\r\n", name)).startswith(b"250 ")
    assert len(await office.held("alice")) + len(await office.held("bob")) == 1


async def test_limits_of_messages_and_recipients(closed_office):
    office = closed_office
    office.limits = limits(messages=2, recipients=2, messages_per_minute=3)
    await office.start()
    client = await office.connect()
    await client.envelope(ALICE, BOB)
    assert (await client.say(b"RCPT TO:<bob@example.test>")).startswith(b"452 4.5.3")
    await client.say(b"DATA")
    assert (await client.say(b".")).startswith(b"250")
    assert (await client.mail(b"\r\n", ALICE)).startswith(b"250")
    assert (await client.say(b"MAIL FROM:<a@b.example>")).startswith(b"421 4.7.0")
    client = await office.connect()
    assert (await client.mail(b"\r\n", ALICE)).startswith(b"250")
    assert (await client.say(b"MAIL FROM:<a@b.example>")).startswith(b"450 4.7.1")


async def test_messages_per_minute_are_those_of_every_frontend(closed_office):
    office = closed_office
    office.limits = limits(messages_per_minute=3)
    await office.start()
    first = await office.connect()
    assert (await first.mail(b"\r\n", ALICE)).startswith(b"250")
    assert (await first.mail(b"\r\n", ALICE)).startswith(b"250")
    await office.start_front()  # another one beside it
    second = await office.connect()
    assert (await second.mail(b"\r\n", ALICE)).startswith(b"250")
    assert (await second.mail(b"\r\n", ALICE)).startswith(b"450 4.7.1")
    assert (await first.mail(b"\r\n", ALICE)).startswith(b"450 4.7.1")
    assert len(await office.held("alice")) == 3


async def test_recipients_per_hour(closed_office):
    office = closed_office
    office.per_hour = 3
    await office.start()
    client = await office.signed_in()
    assert (await client.mail(b"\r\n", ALICE, BOB, sender=ALICE)).startswith(b"250")
    assert (await client.mail(b"\r\n", ALICE, BOB, sender=ALICE)).startswith(b"450 4.7.1")
    assert (await client.mail(b"\r\n", BOB, sender=ALICE)).startswith(b"250")
    bobs = await office.signed_in("bob")
    assert (await bobs.mail(b"\r\n", ALICE, sender=BOB)).startswith(b"250")


async def test_drain_answers_what_is_under_way(office):
    client = await office.connect()
    await client.envelope(ALICE)
    idle = await office.connect()
    ending = asyncio.create_task(office.front.drain(5))
    assert await idle.rest() == [b"421 4.3.2 Shutting down\r\n"]
    assert (await client.rest())[-1].startswith(b"421 4.3.2")
    await ending


async def test_a_half_closed_client_is_answered(office):
    client = await office.connect()
    client.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n")
    client.writer.write_eof()
    assert [(await client.reply())[:3] for _ in range(3)] == [b"250", b"250", b"354"]
    assert await client.reply() == b""


async def test_a_client_that_does_not_read_is_not_read(office):
    client = await office.connect()
    await client.envelope(*["alice@example.test"] * 2)
    line = b"RCPT TO:<alice@example.test>\r\n"
    for _ in range(400):
        client.send(line * 1000)
    await asyncio.sleep(0.5)
    (session,) = office.front.sessions
    assert session.transport.get_write_buffer_size() < 1 << 20
    assert len(session.reader) < 1 << 20


async def test_transport_away_is_451_and_nothing_is_lost_of_the_session(office):
    client = await office.connect()
    await office.stop_transport()
    (office.folder / "smtp.sock").unlink()
    assert (await client.mail(b"\r\n", ALICE)).startswith(b"451 4.3.0")
    await office.start_transport()
    assert (await client.mail(b"\r\n", ALICE)).startswith(b"250 ")


async def test_content_without_its_end_is_acknowledged_at_once(office, monkeypatch):
    """A client that sends the final dot apart waits for the acknowledgement of what is before it (Nagle)."""
    acknowledged = []
    monkeypatch.setattr(connection, "acknowledge_at_once", acknowledged.append)
    client = await office.connect()
    await client.envelope(ALICE)
    assert (await client.say(b"DATA")).startswith(b"354 ")
    before = len(acknowledged)
    client.send(b"Subject: x\r\n\r\nhalf a message\r\n")
    async with asyncio.timeout(10):
        while len(acknowledged) == before:
            await asyncio.sleep(0.01)
    assert (await client.say(b".")).startswith(b"250 ")
    assert len(acknowledged) == before + 1


async def test_nothing_is_said_behind_the_last_word():
    class Wire(asyncio.Transport):
        said = b""
        shut = False

        def write(self, data):
            if self.shut:
                raise RuntimeError("Cannot call write() after write_eof()")
            self.said += data

        def write_eof(self):
            self.shut = True

        def is_closing(self):
            return False

        def close(self):
            pass

        resume_reading = close

    session = connection.Connection()
    session.connection_made(wire := Wire())
    session.end(replies.IDLE_TOO_LONG)
    session.say(replies.OK)
    assert wire.said == replies.IDLE_TOO_LONG.wire


async def test_a_client_that_goes_while_it_signs_in_leaves_no_connection(office, monkeypatch):
    from atoll.protocols.smtp.handoff import HopConnection

    made = []

    async def answer(self, data):
        made.append(self)
        await asyncio.sleep(30)

    monkeypatch.setattr(HopConnection, "answer", answer)
    client = await office.connect("submissions")
    client.send(b"AUTH PLAIN " + b64encode(f"\0{ALICE}\0".encode() + PASSWORD) + b"\r\n")
    async with asyncio.timeout(5):
        while not made:
            await asyncio.sleep(0.01)
        client.writer.transport.abort()
        while made[0]._transport is not None:
            await asyncio.sleep(0.01)
