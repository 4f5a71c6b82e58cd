"""transport.send.client -- one SMTP conversation as the client.

In     a connection of runtime.egress; envelopes with their content.
Out    a reply for each recipient: the server's own words.
Spec   [RFC 5321 §4], [RFC 2920] PIPELINING, [RFC 3030] BDAT, [RFC 3207] STARTTLS, [RFC 1870] SIZE, [RFC 6531] SMTPUTF8,
       [RFC 3461] DSN. Text of ours goes out with CRLF only and its dots doubled: nothing that a server could take for
       the end of the message (smuggling) can be in it, since what came in was refused for a bare CR or LF.
Fails  Broken: no SMTP, or the connection went; what was not answered has no outcome.
Not    which server (routes), when again (lanes).
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Sequence

from atoll.formats.smtp import replies
from atoll.formats.smtp.replies import Reply, ReplyParser
from atoll.transport.envelope import Envelope, Recipient

GREETING_SECONDS = 300.0
COMMAND_SECONDS = 300.0
END_SECONDS = 600.0
"""[RFC 5321 §4.5.3.2]"""
PIECE = 256 << 10
_DOT = re.compile(rb"^\.", re.M)
NO_UTF8 = Reply(553, "5.6.7", "The recipient's server does not take addresses or headers in UTF-8")
NO_BINARY = Reply(554, "5.6.3", "The recipient's server does not take binary content")


class Broken(Exception):
    """The conversation cannot go on. str() is for a person."""


class SmtpClient:
    """One connection, from its greeting to QUIT. name: whom we believe to talk to, for texts and certificates."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, name: str, helo: str) -> None:
        self._reader = reader
        self._writer = writer
        self._parser = ReplyParser()
        self._name = name
        self._helo = helo
        self.words: dict[str, str] = {}
        """What EHLO announced, capitals -> its parameters."""
        self.tls = ""
        """Protocol and cipher, once TLS is on."""
        self.handshaking = False
        """A conversation that broke in here may do better without TLS."""
        self.over = False
        """Nothing more can be sent here."""
        self.committing = False
        """A conversation that broke in here may have left its message."""

    async def open(self, tls: ssl.SSLContext | None, *, must: bool) -> None:
        """Greeting, EHLO, STARTTLS where it is offered. must: no message without TLS."""
        greeting = await self._reply(GREETING_SECONDS)
        if greeting.code != 220:
            raise Broken(f"{self._name} said {_text(greeting)}")
        await self._hello()
        if tls is not None and "STARTTLS" in self.words:
            await self._start_tls(tls)
        elif must:
            raise Broken(f"{self._name} offers no TLS")

    async def _hello(self) -> None:
        reply = await self._ask(f"EHLO {self._helo}")
        if reply.code == 250:
            lines = reply.text.split("\n")[1:]
            self.words = {word.upper(): rest for word, _, rest in (line.strip().partition(" ") for line in lines)}
            return
        reply = await self._ask(f"HELO {self._helo}")
        self.words = {}
        if reply.code != 250:
            raise Broken(f"{self._name} said {_text(reply)}")

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        reply = await self._ask("STARTTLS")
        if reply.code != 220:
            raise Broken(f"{self._name} said {_text(reply)}")
        if self._parser.waiting:
            raise Broken(f"{self._name} spoke before TLS was on")  # whoever sits between us may have
        self.handshaking = True
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                await self._writer.start_tls(context, server_hostname=self._name)
        except (OSError, ssl.SSLError, TimeoutError) as error:
            raise Broken(f"TLS with {self._name} failed: {error}") from None
        self.handshaking = False
        session = self._writer.get_extra_info("ssl_object")
        self.tls = f"{session.version()} {session.cipher()[0]}"
        await self._hello()

    async def sign_in(self, user: str, password: str) -> None:
        """AUTH PLAIN [RFC 4616], over TLS only."""
        import base64

        if not self.tls:
            raise Broken(f"{self._name}: no password without TLS")
        secret = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
        reply = await self._ask(f"AUTH PLAIN {secret}")
        if reply.code != 235:
            raise Broken(f"{self._name} refused the sign-in: {_text(reply)}")

    async def send(self, envelope: Envelope, recipients: Sequence[Recipient], content: bytes) -> dict[str, Reply]:
        """One transaction; a reply for each address. Broken: for none."""
        refusal = self._cannot(envelope, content)
        if refusal is not None:
            return {one.address: refusal for one in recipients}
        commands = [self._mail_line(envelope, content), *(self._rcpt_line(one) for one in recipients)]
        if "PIPELINING" in self.words:
            self._write("".join(commands).encode())
            heard = [await self._reply(COMMAND_SECONDS) for _ in commands]
        else:
            heard = []
            for command in commands:
                self._write(command.encode())
                heard.append(await self._reply(COMMAND_SECONDS))
                if len(heard) == 1 and heard[0].code != 250:
                    break
        if heard[0].code != 250:
            await self._reset()
            return {one.address: heard[0] for one in recipients}
        said = {one.address: reply for one, reply in zip(recipients, heard[1:], strict=True)}
        if not any(reply.code in (250, 251) for reply in said.values()):
            await self._reset()
            return said
        end = await self._content(content)
        return {address: end if reply.code in (250, 251) else reply for address, reply in said.items()}

    def _cannot(self, envelope: Envelope, content: bytes) -> Reply | None:
        if envelope.utf8 and "SMTPUTF8" not in self.words:
            return NO_UTF8
        if envelope.body == "BINARYMIME" and not {"BINARYMIME", "CHUNKING"} <= self.words.keys():
            return NO_BINARY
        limit = self.words.get("SIZE", "")
        if limit.isdigit() and 0 < int(limit) < len(content):
            return replies.TOO_BIG
        return None

    def _mail_line(self, envelope: Envelope, content: bytes) -> str:
        line = f"MAIL FROM:<{envelope.sender}>"
        if "SIZE" in self.words:
            line += f" SIZE={len(content)}"
        if envelope.body != "7BIT" and ("8BITMIME" in self.words or envelope.body == "BINARYMIME"):
            line += f" BODY={envelope.body}"
        if envelope.utf8:
            line += " SMTPUTF8"
        if "DSN" in self.words:
            line += f" RET={envelope.ret}" if envelope.ret else ""
            line += f" ENVID={envelope.envid}" if envelope.envid else ""
        return line + "\r\n"

    def _rcpt_line(self, one: Recipient) -> str:
        line = f"RCPT TO:<{one.address}>"
        if "DSN" in self.words:
            line += f" NOTIFY={','.join(one.notify)}" if one.notify else ""
            line += f" ORCPT={one.orcpt}" if one.orcpt else ""
        return line + "\r\n"

    async def _content(self, content: bytes) -> Reply:
        self.committing = True
        if "CHUNKING" in self.words:
            self._write(b"BDAT %d LAST\r\n" % len(content))
            await self._pour(content)
        else:
            self._write(b"DATA\r\n")
            reply = await self._reply(COMMAND_SECONDS)
            if reply.code != 354:
                self.committing = False
                return reply
            await self._pour(_DOT.sub(b"..", content))
            self._write(b".\r\n" if content.endswith(b"\r\n") else b"\r\n.\r\n")
        reply = await self._reply(END_SECONDS)
        self.committing = False
        return reply

    async def _pour(self, content: bytes) -> None:
        view = memoryview(content)
        try:
            for at in range(0, len(view), PIECE):
                self._writer.write(view[at : at + PIECE])
                async with asyncio.timeout(COMMAND_SECONDS):
                    await self._writer.drain()
        except (OSError, TimeoutError):
            raise Broken(f"{self._name} stopped taking the message") from None

    async def _reset(self) -> None:
        """What was refused stays refused, whether the server stays or goes after it."""
        try:
            await self._ask("RSET")
        except Broken:
            self.over = True

    def quit(self) -> None:
        """Say goodbye; nobody waits for the answer."""
        if not self._writer.is_closing():
            self._write(b"QUIT\r\n")
            self._writer.close()

    def abort(self) -> None:
        """Without a word."""
        self._writer.transport.abort()

    async def _ask(self, line: str) -> Reply:
        self._write(line.encode() + b"\r\n")
        return await self._reply(COMMAND_SECONDS)

    def _write(self, data: bytes) -> None:
        self._writer.write(data)

    async def _reply(self, seconds: float) -> Reply:
        try:
            async with asyncio.timeout(seconds):
                while True:
                    reply = self._parser.next()
                    if reply is not None:
                        break
                    data = await self._reader.read(65536)
                    if not data:
                        raise Broken(f"{self._name} closed the connection")
                    self._parser.feed(data)
        except TimeoutError:
            raise Broken(f"{self._name} did not answer within {seconds:.0f} s") from None
        except ValueError:
            raise Broken(f"{self._name} does not speak SMTP") from None
        except OSError as error:
            raise Broken(f"The connection to {self._name} went: {error.strerror}") from None
        if reply.code == 421:
            raise Broken(f"{self._name} said {_text(reply)}")
        return reply


def _text(reply: Reply) -> str:
    return f"{reply.code} {reply.status} {reply.text}".replace("  ", " ").replace("\n", " ")
