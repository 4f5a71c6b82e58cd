"""SMTP rows of the attack catalogue that concern receiving: one test per input of each row, named by its id.

Rows of sending and of judging senders have nothing to be tried on before mail leaves the island: they stand in
tests/meta/test_attacks.py with the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import resource
import socket
import ssl
import time
from base64 import b64encode
from pathlib import Path

import pytest

from atoll.protocols.smtp import front as front_module
from atoll.protocols.smtp import shared as shared_module
from tests.directory.conftest import PASSWORD
from tests.island import Island
from tests.transport.conftest import closed_office, house, office
from tests.transport.kit import PostOffice, limits

__all__ = ["closed_office", "house", "office"]
ALICE = "alice@example.test"
FORGED = {"S002": b"\n.\r", "S004": b"\r.\r", "S005": b"\n.\r\n", "S006": b"\r.\r\n", "S007": b"\r\n\x00.\r\n",
          "S008": b"\r\n.\n"}
SECOND = b"MAIL FROM:<ceo@example.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\nSubject: forged\r\n\r\n.\r\n"


async def smuggle(office: PostOffice, end: bytes, cut: int) -> tuple[bytes, bytes]:
    """(the reply to the content, the reply to a NOOP behind it)."""
    client = await office.connect()
    await client.envelope(ALICE)
    await client.say(b"DATA")
    data = b"Subject: outer\r\n\r\nbody" + end + SECOND[:-5] + b"\r\n.\r\n"
    for at in range(0, len(data), cut):
        client.send(data[at : at + cut])
        if cut < 10:
            await asyncio.sleep(0)
    return await client.reply(), await client.say(b"NOOP")


async def forged(office: PostOffice, caplog: pytest.LogCaptureFixture, row: str, cut: int) -> None:
    said, after = await smuggle(office, FORGED[row], cut)
    assert said.startswith(b"550 5.5.2")
    assert (b"NUL" in said) == (row == "S007")
    assert after == b"250 2.0.0 Ok\r\n"  # one reply was sent for all of it
    assert [await office.held(name) for name in ("alice", "bob")] == [[], []]
    assert "smtp.smuggling_attempt" in caplog.text


@pytest.mark.parametrize("cut", [1, 1 << 20])
async def test_S002_forged_end(office, caplog, cut):
    await forged(office, caplog, "S002", cut)


@pytest.mark.parametrize("cut", [1, 1 << 20])
async def test_S004_forged_end(office, caplog, cut):
    await forged(office, caplog, "S004", cut)


@pytest.mark.parametrize("cut", [1, 1 << 20])
async def test_S005_forged_end(office, caplog, cut):
    await forged(office, caplog, "S005", cut)


@pytest.mark.parametrize("cut", [1, 1 << 20])
async def test_S006_forged_end(office, caplog, cut):
    await forged(office, caplog, "S006", cut)


@pytest.mark.parametrize("cut", [1, 1 << 20])
async def test_S007_nul_before_the_dot(office, caplog, cut):
    await forged(office, caplog, "S007", cut)


@pytest.mark.parametrize("cut", [1, 1 << 20])
async def test_S008_forged_end(office, caplog, cut):
    await forged(office, caplog, "S008", cut)


@pytest.mark.parametrize("end", FORGED.values(), ids=FORGED)
@pytest.mark.parametrize("how", ["DATA", "BDAT", "BINARYMIME"])
async def test_S011_behind_the_frontend_there_is_one_transaction(office, monkeypatch, end, how):
    """What goes inside is made from parsed commands; with BINARYMIME such octets are content, and counted."""
    seen = []
    accept = office.relay.accept
    monkeypatch.setattr(office.relay, "accept", lambda envelope, content, done: (
        seen.append((envelope, content)), accept(envelope, content, done)))
    client = await office.connect()
    await client.envelope(ALICE, more=" BODY=BINARYMIME" if how == "BINARYMIME" else "")
    inner = b"Subject: outer\r\n\r\nbody" + end + SECOND[:-5] + b"\r\n"
    if how == "DATA":
        await client.say(b"DATA")
        client.send(inner + b".\r\n")
    else:
        client.send(b"BDAT %d LAST\r\n" % len(inner) + inner)
    said = await client.reply()
    assert (await client.say(b"NOOP")).startswith(b"250 ")
    if how == "BINARYMIME":
        assert said.startswith(b"250 ")
        ((envelope, content),) = seen
        assert [one.address for one in envelope.recipients] == [ALICE]
        assert content.endswith(inner)
    else:
        assert said.startswith(b"550 5.5.2")
        assert seen == []


async def test_S013_starttls_inside_tls(office):
    client = await office.connect()
    await client.tls(office.trust)
    assert (await client.say(b"STARTTLS")).startswith(b"503 5.5.1")


async def test_S013_starttls_between_mail_and_rcpt(office):
    client = await office.connect()
    await client.say(b"MAIL FROM:<a@b.example>")
    assert (await client.say(b"STARTTLS")).startswith(b"503 5.5.1")


async def test_S013_state_is_reset_after_success(office):
    client = await office.connect()
    assert (await client.say(b"STARTTLS")).startswith(b"220 ")
    await client.writer.start_tls(office.trust, server_hostname="127.0.0.1")
    assert (await client.say(b"MAIL FROM:<a@b.example>")).startswith(b"503 5.5.1")


async def test_S013_words_sent_in_the_clear_behind_starttls_end_it(office):
    client = await office.connect()
    client.send(b"STARTTLS\r\nMAIL FROM:<a@b.example>\r\n")
    assert await client.reply() == b""


async def test_S014_auth_before_starttls(office, caplog):
    caplog.set_level(logging.DEBUG)
    client = await office.connect("submission", hello=False)
    assert b"AUTH" not in await client.say(b"EHLO x")
    word = b64encode(b"\0" + ALICE.encode() + b"\0" + PASSWORD)
    assert (await client.say(b"AUTH PLAIN " + word)).startswith(b"538 5.7.11")
    assert word.decode() not in caplog.text
    assert PASSWORD.decode() not in caplog.text


async def test_S015_talking_before_the_greeting(closed_office):
    closed_office.limits = limits(pregreet_seconds=0.3)
    await closed_office.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", closed_office.ports["smtp"])
    writer.write(b"EHLO x\r\nMAIL FROM:<a@b.example>\r\n")
    assert (await reader.read()).startswith(b"554 5.5.0")
    writer.close()


@pytest.mark.parametrize("recipient", [b"nobody@example.test", b"x@out.example"])
async def test_S016_content_behind_a_refused_data_is_no_command(office, recipient):
    client = await office.connect()
    client.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<" + recipient + b">\r\nDATA\r\nSubject: x\r\n\r\nRSET\r\n"
                b"MAIL FROM:<a@b.example>\r\nRCPT TO:<alice@example.test>\r\n.\r\nNOOP\r\n")
    assert [(await client.reply())[:9] for _ in range(3)][1:] == [
        b"550 5.1.1" if b"example.test" in recipient else b"550 5.7.1", b"554 5.5.1"]
    assert [(await client.reply())[:9] for _ in range(6)] == [b"503 5.5.1"] * 6
    assert (await client.reply()).startswith(b"250 ")
    assert await office.held() == []


async def test_S016_a_long_content_ends_the_connection(office):
    client = await office.connect()
    client.send(b"MAIL FROM:<a@b.example>\r\nDATA\r\n" + b"x\r\n" * 100)
    said = await client.rest()
    assert said[-1].startswith(b"421 4.7.0")
    assert len(said) < 25


async def test_S017_endless_command_line(office):
    client = await office.connect()
    client.send(b"A" * 102_400)
    assert (await client.rest())[0].startswith(b"500 5.5.2")


def grown(before: int) -> int:
    """Octets by which this process has grown at its highest since."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


async def test_S018_endless_line_in_the_content(office):
    client = await office.connect()
    await client.envelope(ALICE)
    await client.say(b"DATA")
    piece = b"x" * 65536
    client.send(piece * 4)
    await client.writer.drain()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for _ in range(160):
        client.send(piece)
        await client.writer.drain()
    client.send(b"\r\n.\r\n")
    assert (await client.reply()).startswith(b"552 5.3.4")
    assert grown(before) < 16 << 20


async def test_S018_a_long_line_within_the_limit_is_stored_as_it_is(office):
    line = "ü".encode() * 100_000
    client = await office.connect()
    assert (await client.mail(b"\r\n" + line + b"\r\n", ALICE)).startswith(b"250 ")
    assert (await office.held())[0].endswith(b"\r\n\r\n" + line + b"\r\n")


async def test_S019_size_announced_too_big(office):
    client = await office.connect()
    assert (await client.say(b"MAIL FROM:<a@b.example> SIZE=999999999999")).startswith(b"552 5.3.4")


@pytest.mark.parametrize("how", ["DATA", "BDAT"])
async def test_S020_size_understated(office, how):
    client = await office.connect()
    await client.envelope(ALICE, more=" SIZE=100")
    content = b"x" * 78 + b"\r\n"
    content *= (1 << 20) // len(content) + 1
    if how == "DATA":
        await client.say(b"DATA")
        client.send(content + b".\r\n")
        assert (await client.reply()).startswith(b"552 5.3.4")
    else:
        half = len(content) // 2
        client.send(b"BDAT %d\r\n" % half + content[:half])
        assert (await client.reply()).startswith(b"250 ")
        client.send(b"BDAT %d LAST\r\n" % (len(content) - half) + content[half:])
        assert (await client.reply()).startswith(b"552 5.3.4")
    assert await office.held() == []
    assert office.relay.held == 0


@pytest.mark.parametrize("line", [b"BDAT 99999999999999999999", b"BDAT -1", b"BDAT 5 FIRST", b"BDAT 999999999999"])
async def test_S021_sizes_that_are_none(office, line):
    client = await office.connect()
    await client.envelope(ALICE)
    client.send(line + b"\r\nRSET\r\n")
    said = await client.rest()
    assert len(said) == 1
    assert said[0][:9] in (b"501 5.5.4", b"552 5.3.4")


async def test_S021_incomplete_chunk(office):
    client = await office.connect()
    await client.envelope(ALICE)
    client.send(b"BDAT 5 LAST\r\nabc")
    client.close()
    await asyncio.sleep(0.1)
    assert await office.held() == []


async def test_S022_chunks_do_not_end_early(office):
    inner = b"x\n.\r\nMAIL FROM:<a@b.example>\r\n"
    client = await office.connect()
    await client.envelope(ALICE, more=" BODY=BINARYMIME")
    client.send(b"BDAT %d LAST\r\n" % len(inner) + inner)
    assert (await client.reply()).startswith(b"250 ")
    assert (await office.held())[0].endswith(inner)


@pytest.mark.parametrize("cut", [1, 2, 3])
async def test_S022_bare_line_feed_across_chunks(office, cut):
    """Without BINARYMIME a bare LF is refused, wherever the chunks are cut; a CRLF cut in two is none."""
    client = await office.connect()
    for content, code in ((b"a\r\nb", b"250 "), (b"a\rb\n", b"550 "), (b"abc\r", b"550 "), (b"abc\n", b"550 ")):
        await client.envelope(ALICE)
        client.send(b"BDAT %d\r\n" % cut + content[:cut])
        assert (await client.reply()).startswith(b"250 ")
        client.send(b"BDAT %d LAST\r\n" % (len(content) - cut) + content[cut:])
        assert (await client.reply()).startswith(code)


async def test_S023_too_many_recipients(office):
    client = await office.connect()
    await client.say(b"MAIL FROM:<a@b.example>")
    codes = []
    for _ in range(20):
        client.send(b"RCPT TO:<alice@example.test>\r\n" * 1000)
        codes += [(await client.reply())[:9] for _ in range(1000)]
    assert set(codes[:1000]) == {b"250 2.0.0"}
    assert set(codes[1000:]) == {b"452 4.5.3"}
    await client.say(b"DATA")
    assert (await client.say(b".")).startswith(b"250 ")
    assert len(await office.held()) == 1


@pytest.mark.parametrize("name", [b"root", b"alice", b"alice@example.test", b"nobody@example.test"])
async def test_S024_vrfy_and_expn_tell_nothing(office, name):
    client = await office.connect()
    assert await client.say(b"VRFY " + name) == b"252 2.1.5 Send some mail, I will try to deliver it\r\n"
    assert await client.say(b"EXPN " + name) == b"502 5.5.1 Lists are not expanded\r\n"


async def test_S024_harvest(office, caplog):
    client = await office.connect()
    await client.say(b"MAIL FROM:<a@b.example>")
    begin = time.monotonic()
    client.send(b"".join(b"RCPT TO:<user%d@example.test>\r\n" % at for at in range(500)))
    said = await client.rest()
    assert [one[:9] for one in said] == [b"550 5.1.1"] * 10 + [b"421 4.7.0"]
    assert time.monotonic() - begin >= office.limits.tarpit_seconds
    assert "smtp.directory_harvest" in caplog.text
    assert limits(tarpit_seconds=5.0) != office.limits  # the tests wait less than servers do


@pytest.mark.parametrize("recipient", [
    b"v@out.test", b'"v@out.test"@example.test', b"v%out.test@example.test", b"out.test!v@example.test",
    b"@example.test:v@out.test", b"v@[127.0.0.1]", b"v@out.test@example.test"])
@pytest.mark.parametrize("sender", [b"a@b.example", b"alice@example.test", b""])
async def test_S025_no_relay(office, recipient, sender):
    client = await office.connect()
    assert (await client.say(b"MAIL FROM:<" + sender + b">")).startswith(b"250 ")
    said = await client.say(b"RCPT TO:<" + recipient + b">")
    assert said[:9] in (b"550 5.7.1", b"501 5.1.3", b"550 5.1.1"), said
    assert (await client.say(b"DATA")).startswith(b"554 5.5.1")
    assert office.queue.depth() == 0


@pytest.mark.parametrize("line", [
    b"MAIL FROM:<a@b> ENVID=x\nRCPT TO:<c@d>", b"MAIL FROM:<a@b> ENVID=x\rRCPT TO:<c@d>",
    b"MAIL FROM:<a\n@b>", b"MAIL FROM:<a@b>\0", b"RCPT TO:<alice@example.test>\nDATA"])
async def test_S026_line_ends_inside_a_command(office, line):
    client = await office.connect()
    client.send(line + b"\r\nNOOP\r\n")
    assert (await client.reply())[:9] in (b"501 5.5.4", b"500 5.5.2")
    assert await client.reply() == b"250 2.0.0 Ok\r\n"


@pytest.mark.parametrize(("line", "codes"), [
    (b"MAIL FROM:<;sleep 66;@x.test>", (b"501 5.1.7", b"553 5.1.7")),
    (b'RCPT TO:<"|id"@example.test>', (b"550 5.1.1",)),
    (b"RCPT TO:<../../etc/passwd@example.test>", (b"550 5.1.1", b"501 5.1.3")),
    (b"RCPT TO:<|id@example.test>", (b"550 5.1.1", b"501 5.1.3")),
    (b"RCPT TO:<$(id)@example.test>", (b"550 5.1.1", b"501 5.1.3")),
])
async def test_S027_shell_in_a_local_part(office, line, codes):
    client = await office.connect()
    if line.startswith(b"RCPT"):
        await client.say(b"MAIL FROM:<a@b.example>")
    assert (await client.say(line))[:9] in codes


@pytest.mark.parametrize(("detail", "taken"), [
    (b"../../etc/passwd", False), (b"..", False), (b"a/b/../../c", False), (b"/etc/passwd", True), (b"~root", True),
    (b"%2e%2e%2f", True), (b"|id", True)])
async def test_S027_a_folder_asked_for_by_detail_is_no_path(office, detail, taken):
    client = await office.connect()
    await client.say(b"MAIL FROM:<a@b.example>")
    said = await client.say(b"RCPT TO:<alice+" + detail + b"@example.test>")
    assert said[:9] == (b"250 2.0.0" if taken else b"501 5.1.3")
    if taken:
        await client.say(b"DATA")
        assert (await client.say(b".")).startswith(b"250 ")
        (held,) = await office.held()  # in INBOX, as mail to a folder that is not there
        assert b"for <alice+" + detail + b"@example.test>" in held
    else:
        assert await office.held() == []


@pytest.mark.parametrize("recipient", [b'""@example.test', b"@example.test", b'"@example.test', b'"\\"@example.test'])
async def test_S028_empty_local_part(office, recipient):
    client = await office.connect()
    await client.say(b"MAIL FROM:<a@b.example>")
    assert (await client.say(b"RCPT TO:<" + recipient + b">"))[:3] in (b"501", b"550")
    assert (await client.say(b"NOOP")).startswith(b"250 ")


async def test_S029_ten_megabytes_of_base64(office):
    client = await office.connect("submissions")
    client.send(b"AUTH PLAIN ")
    with pytest.raises((ConnectionError, BrokenPipeError)):  # noqa: PT012 -- it ends somewhere in here
        for _ in range(160):
            client.send(b"QUJD" * 16384)
            await client.writer.drain()
        assert (await client.rest())[0].startswith(b"500 5.5.2")
        raise ConnectionError


@pytest.mark.parametrize("word", [
    b"!!!", b"QUJD=A", b64encode(b"alice"), b64encode(b"\0alice@example.test"), b64encode(b"a\0b\0c\0d"), b"=",
    b64encode(b"\0alice@example.test\0"), b64encode(b"\0\xff\xfe\0x"), "ü".encode()])
async def test_S029_responses_out_of_form(office, word):
    client = await office.connect("submissions")
    assert (await client.say(b"AUTH PLAIN " + word))[:9] in (b"501 5.5.2", b"535 5.7.8", b"501 5.5.4")
    assert (await client.say(b"AUTH PLAIN")).startswith(b"334 ")
    assert (await client.say(word))[:9] in (b"501 5.5.2", b"535 5.7.8")


async def test_S029_single_octet_password(office):
    client = await office.connect("submissions")
    assert (await client.say(b"AUTH PLAIN " + b64encode(b"\0alice@example.test\0x"))).startswith(b"535 5.7.8")


async def test_S029_disconnected_after_three_failures_others_sign_in(office):
    client = await office.connect("submissions")
    client.send(b"AUTH LOGIN\r\n*\r\n" * 1000)
    said = await client.rest()
    assert sum(one.startswith(b"501 5.7.0") for one in said) == 3
    assert said[-1].startswith(b"421 4.7.0")
    await office.signed_in()
    begin = time.monotonic()
    await office.signed_in()
    assert time.monotonic() - begin < 0.25


async def test_S031_slowloris(closed_office, monkeypatch):
    monkeypatch.setattr(front_module, "SWEEP_SECONDS", 0.05)
    office = closed_office
    office.limits = limits(command_seconds=0.5, content_seconds=0.8)
    await office.start()
    in_command = [await office.connect() for _ in range(100)]
    in_content = [await office.connect() for _ in range(20)]
    for client in in_content:
        await client.envelope(ALICE)
        await client.say(b"DATA")
    begin = time.monotonic()
    ends = [asyncio.create_task(client.rest()) for client in in_command + in_content]
    while not all(end.done() for end in ends) and time.monotonic() - begin < 5:
        for client, end in zip(in_command + in_content, ends, strict=True):
            if not end.done():
                client.send(b"x")
        await asyncio.sleep(0.1)
    assert {(await end)[-1] for end in ends} == {b"421 4.4.2 Timeout\r\n"}
    assert time.monotonic() - begin < 3  # for a command, not for a read
    begin = time.monotonic()
    await office.connect()
    assert time.monotonic() - begin < 1


async def test_S031_when_it_is_crowded_whoever_comes_has_less_time(closed_office, monkeypatch):
    monkeypatch.setattr(front_module, "SWEEP_SECONDS", 0.05)
    monkeypatch.setattr(shared_module, "STRESSED_SECONDS", 0.3)
    office = closed_office
    await office.start()
    before = await office.connect()
    office.front.crowded = lambda: True
    begin = time.monotonic()
    assert (await (await office.connect()).rest())[-1] == b"421 4.4.2 Timeout\r\n"
    assert time.monotonic() - begin < 2
    office.front.crowded = lambda: False
    after = await office.connect()
    await asyncio.sleep(0.6)
    for client in (before, after):
        assert (await client.say(b"NOOP")).startswith(b"250 ")


def test_S031_connections_of_one_address_are_capped():
    """Of an address that is not trusted; the demo trusts its own machine, so this one takes that back."""
    with contextlib.ExitStack() as stack:
        island = stack.enter_context(Island(config="[admission]\ntrusted = []\n"))
        sockets = [stack.enter_context(socket.create_connection(("127.0.0.1", island.ports["smtp"]), 5))
                   for _ in range(70)]
        said = [sock.recv(100) for sock in sockets]
        assert sum(one.startswith(b"220 ") for one in said) == 50
        assert {one[:9] for one in said if not one.startswith(b"220 ")} <= {b"421 4.7.0", b""}


def test_S031_a_thousand_silent_connections_of_a_trusted_machine(island):
    """They hold nobody up: whoever is next is greeted."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with contextlib.ExitStack() as stack:
        for number in range(1000):
            silent = stack.enter_context(socket.create_connection(("127.0.0.1", island.ports["smtp"]), 5))
            silent.send(b"E" if number % 2 else b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nR")
        fresh = stack.enter_context(socket.create_connection(("127.0.0.1", island.ports["smtp"]), 5))
        assert fresh.recv(100).startswith(b"220 ")


@pytest.mark.parametrize("word", [b"NOOP", b"RSET", b"EHLO x", b"HELP", b"VRFY root"])
async def test_S032_junk(office, word):
    client = await office.connect()
    client.send((word + b"\r\n") * 200)
    said = await client.rest()
    assert said[-1].startswith(b"421 4.7.0")
    assert len(said) <= 101


async def test_S032_hard_errors(office):
    client = await office.connect()
    client.send(b"FOO\r\n" * 200)
    said = await client.rest()
    assert [one[:3] for one in said] == [b"500"] * 20 + [b"421"]


@pytest.mark.parametrize("line", [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST / HTTP/1.1\r\n\r\nMAIL FROM:<a@b.example>\r\n",
    b"CONNECT x:25 HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)) + b"\r\n"])
async def test_S033_other_protocols(office, line):
    client = await office.connect(hello=False)
    client.send(line)
    assert await client.rest() == [b"521 5.7.0 This is SMTP\r\n"]


@pytest.mark.parametrize("line", [
    b"MAIL FROM:<(any@legit.test>", b"MAIL FROM:<any@legit.test(a.attack.test>",
    b"MAIL FROM:<any@legit.test'@a.attack.test>", b"MAIL FROM:<@legit.test,@any.test:'any@attack.test>",
    b"MAIL FROM:<any@legit.test>@attack.test", b"MAIL FROM:any@legit.test <x@attack.test>"])
async def test_S036_two_addresses_in_one(office, line):
    client = await office.connect()
    assert (await client.say(line))[:9] in (b"501 5.1.7", b"501 5.5.4")


@pytest.mark.parametrize("name", [b"x)\r\nX: y", b"a (b) <c>", b"evil\tby mail", "ü.example".encode(), b"a;b\"c\\d"])
async def test_S036_a_helo_name_says_nothing_more_in_received(office, name):
    client = await office.connect(hello=False)
    client.send(b"EHLO " + name + b"\r\n")
    await client.reply()
    if b"\n" in name:
        await client.reply()
    if not (await client.say(b"MAIL FROM:<>")).startswith(b"250 "):
        return
    await client.say(b"RCPT TO:<alice@example.test>")
    await client.say(b"DATA")
    assert (await client.say(b".")).startswith(b"250 ")
    line = (await office.held())[0].split(b"\r\n")[1]
    assert re.fullmatch(rb"Received: from [!-~]+ \(\[127\.0\.0\.1\]\)", line)
    assert not set(b"()<>;\"\\") & set(line.split(b" ")[2])


async def test_S040_a_loop_is_stopped(office):
    client = await office.connect()
    again = b"Received: from a by b; Tue, 14 Nov 2023 22:13:20 +0000\r\n"
    assert (await client.mail(again * 101 + b"\r\n", ALICE)).startswith(b"554 5.4.6")
    assert (await client.mail(again.upper() * 101 + b"\r\n", ALICE)).startswith(b"554 5.4.6")
    assert (await client.mail(again * 50 + b"\r\n" + again * 60, ALICE)).startswith(b"250 ")
    assert len(await office.held()) == 1


async def test_S040_no_report_about_a_report(office):
    office.mailboxes[2].path.unlink()
    await office.mailboxes[2].server.close()
    client = await office.connect()
    assert (await client.mail(b"\r\n", "bob@example.test", sender="")).startswith(b"250 ")
    await office.wait_empty()
    assert await office.held() == []


async def test_S041_utf8_without_smtputf8(office):
    client = await office.connect()
    assert (await client.say("MAIL FROM:<grüße@b.example>".encode())).startswith(b"553 5.6.7")
    assert (await client.say(b"RCPT TO:<alice@example.test>")).startswith(b"503 ")
    assert (await client.say(b"DATA")).startswith(b"503 ")
    assert (await client.say(b"MAIL FROM:<a@b.example>")).startswith(b"250 ")
    assert (await client.say("RCPT TO:<grüße@example.test>".encode())).startswith(b"553 5.6.7")
    assert (await client.say(b"VRFY \xff\xfe")).startswith(b"501 ")
    assert (await client.say(b"RCPT TO:<alice@example.test>")).startswith(b"250 ")


@pytest.mark.parametrize("line", [
    b"XCLIENT ADDR=10.0.0.1", b"XFORWARD ADDR=10.0.0.1", b"XSHADOW x", b"X-EXPS GSSAPI",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04"])
async def test_S042_facts_from_a_stranger(office, line):
    client = await office.connect(hello=False)
    client.send(line + b"\r\n")
    assert (await client.reply())[:3] in (b"550", b"500")
    assert [one._facts.ip for one in office.front.sessions] == ["127.0.0.1"]


@pytest.mark.parametrize("word", [b"XATOLL=e30=", b"XID=aaaaaaaaaaaaaaaaaaaaaaaaaa"])
async def test_S042_words_of_our_own_hop(office, word):
    client = await office.connect()
    assert (await client.say(b"MAIL FROM:<a@b.example> " + word)).startswith(b"555 5.5.4")
    assert (await client.say(b"AUTH ATOLL A1.x.y"))[:3] in (b"500", b"504")


def handshake(island: Island, context: ssl.SSLContext, name: str | None = "localhost") -> str | None:
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", island.ports["submissions"]), 5) as sock, \
            context.wrap_socket(sock, server_hostname=name) as tls:
        return tls.version()


def would_agree(client: ssl.SSLContext, island: Island, ciphers: str) -> str | None:
    """What this client speaks with a server that takes anything: it must be able to ask for what is then refused."""
    careless = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    careless.set_ciphers(ciphers)
    careless.minimum_version = ssl.TLSVersion.TLSv1
    careless.load_cert_chain(island.data / "tls" / "cert.pem", island.data / "tls" / "key.pem")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(to_client, to_server), careless.wrap_bio(to_server, to_client, server_side=True))
    for _ in range(6):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return ends[0].version()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_S043_old_tls(island, version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    assert would_agree(context, island, "ALL:@SECLEVEL=0") in ("TLSv1", "TLSv1.1")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(island, context)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_S043_anonymous_cipher(island):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert handshake(island, context) == "TLSv1.2"
    context.set_ciphers("aNULL:@SECLEVEL=0")
    assert would_agree(context, island, "aNULL:@SECLEVEL=0") == "TLSv1.2"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(island, context)


def test_S043_unknown_names(island):
    for at in range(20):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        assert handshake(island, context, f"host{at}.unknown.example") == "TLSv1.3"


async def test_S045_no_space_in_the_queue(office):
    """A full disk, as SQLite meets it: nothing is half stored, the listener goes on, and there is room again later."""
    await office.mailboxes[2].server.close()
    client = await office.connect()
    raw = office.queue._file.writer.raw
    raw.execute("PRAGMA max_page_count=1").fetchall()
    content = b"x" * 500_000 + b"\r\n"
    assert (await client.mail(content, "bob@example.test")).startswith(b"452 4.3.1")
    assert office.queue.depth() == 0
    assert (await client.mail(b"\r\n", ALICE)).startswith(b"250 ")
    raw.execute("PRAGMA max_page_count=1000000").fetchall()
    assert (await client.mail(content, "bob@example.test")).startswith(b"250 ")
    assert office.queue.depth() == 1
    await office.mailboxes[2].listen()
    await office.wait_empty()


async def test_S045_below_the_reserve_nothing_is_taken_in(office):
    client = await office.connect()
    office.pressure._reserve = 1 << 60
    office.pressure._look()
    assert office.pressure.low
    assert (await client.mail(b"\r\n", ALICE)).startswith(b"452 4.3.1")
    assert office.health == {"fail": "no space left: nothing is taken in"}
    assert await office.held() == []


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/bin/mount").exists(), reason="needs root for a small tmpfs")
def test_S045_a_disk_of_one_megabyte(tmp_path):
    import subprocess

    folder = tmp_path / "q"
    folder.mkdir()
    if subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False,
                      capture_output=True).returncode:
        pytest.skip("no tmpfs here")
    try:
        async def look() -> bool:
            from atoll.transport.pressure import Pressure

            pressure = Pressure(folder, lambda state, detail: None)
            pressure.close()
            return pressure.low

        assert asyncio.run(look())
    finally:
        subprocess.run(["/bin/umount", str(folder)], check=True)
