"""The client's side of SMTP against servers that do as they like."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from atoll.transport.envelope import Envelope, Recipient
from atoll.transport.send.client import Broken, SmtpClient

MESSAGE = Envelope(b"1" * 16, "a@x.test", (Recipient("b@far.example"), Recipient("c@far.example")), 1)


@asynccontextmanager
async def talking_to(*script: tuple[bytes, bytes]) -> AsyncIterator[tuple[SmtpClient, list[bytes]]]:
    """A server that greets, and for each line that begins so says that; b"" ends the connection."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 far\r\n")
        for begins, says in script:
            line = await reader.readline()
            while line and not line.startswith(begins):
                heard.append(line)
                line = await reader.readline()
            heard.append(line)
            if not says:
                break
            writer.write(says)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    client = SmtpClient(reader, writer, name="far", helo="us")
    try:
        await client.open(None, must=False)
        yield client, heard
    finally:
        client.abort()
        server.close()


async def test_what_is_refused_stays_refused_when_the_server_goes_after_it() -> None:
    script = ((b"EHLO", b"250 far\r\n"), (b"MAIL", b"550 5.7.1 not you\r\n"), (b"RSET", b""))
    async with talking_to(*script) as (client, _):
        said = await client.send(MESSAGE, MESSAGE.recipients, b"x\r\n")
        assert {(reply.code, reply.text) for reply in said.values()} == {(550, "not you")}
        assert len(said) == 2
        assert client.over


async def test_each_recipient_has_the_words_that_were_said_of_him() -> None:
    async with talking_to((b"EHLO", b"250-far\r\n250 PIPELINING\r\n"), (b"MAIL", b"250 ok\r\n"),
                          (b"RCPT TO:<b@", b"250 ok\r\n"), (b"RCPT TO:<c@", b"452 4.2.2 full\r\n"),
                          (b"DATA", b"354 go\r\n"), (b".\r\n", b"250 2.0.0 taken as 17\r\n")) as (client, heard):
        said = await client.send(MESSAGE, MESSAGE.recipients, b".x\r\n..\r\nlast line without an end")
        assert [(said[one].code, said[one].text) for one in ("b@far.example", "c@far.example")] == [
            (250, "taken as 17"), (452, "full")]
        assert not client.over
        assert heard[-4:] == [b"..x\r\n", b"...\r\n", b"last line without an end\r\n", b".\r\n"]


@pytest.mark.parametrize("end", [b"421 4.3.2 going\r\n", b"", b"hello\r\n"])
async def test_a_server_that_goes_in_mid_message_may_have_it(end: bytes) -> None:
    async with talking_to((b"EHLO", b"250 far\r\n"), (b"MAIL", b"250 ok\r\n"), (b"RCPT", b"250 ok\r\n"),
                          (b"RCPT", b"250 ok\r\n"), (b"DATA", b"354 go\r\n"), (b".\r\n", end)) as (client, _):
        with pytest.raises(Broken):
            await client.send(MESSAGE, MESSAGE.recipients, b"x\r\n")
        assert client.committing
