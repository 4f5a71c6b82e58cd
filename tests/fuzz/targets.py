"""What is fuzzed: one function for each parser that reads what strangers send. Any exception out of it is a finding.

In     octets. A target raises nothing for them, whatever they are: the parser's own errors are caught here by name.
Out    AssertionError where what a parser promises does not hold: the same events however the octets are cut, and
       what was read reads the same when it is written again.
Not    imports at the top: a target imports its parser when it is made, so that only that is instrumented.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

Target = Callable[[bytes], object]


def pieces(data: bytes) -> tuple[bytes, list[bytes]]:
    """The first octet says how the others are cut: (all of them, the pieces)."""
    if not data:
        return b"", []
    rest, step = data[1:], data[0] % 16 + 1
    return rest, [rest[at:at + step] for at in range(0, len(rest), step)]


def smtp_reader() -> Target:
    from atoll.formats.smtp.reader import End, LineTooLong, Piece, Reader

    def events(parts: list[bytes]) -> list[object]:
        reader, found, content = Reader(512), [], b""
        try:
            for part in parts:
                reader.feed(part)
                while (event := reader.next()) is not None:
                    if isinstance(event, Piece):
                        content += event.data
                    elif isinstance(event, End):
                        found.append((content, event.fault))
                        content = b""
                    else:
                        found.append(event)
                        if event.text == b"DATA":
                            reader.data()
                        elif event.text[:4] == b"BDAT":
                            reader.chunk(len(event.text))
        except LineTooLong:
            found.append("too long")
        return found

    def run(data: bytes) -> None:
        whole, parts = pieces(data)
        assert events([whole]) == events(parts)

    return run


def smtp_commands() -> Target:
    from atoll.formats.sasl import NotSasl
    from atoll.formats.smtp.commands import Refuse, parse_bdat, parse_mail, parse_rcpt
    from atoll.formats.smtp.inside import inside_mail, inside_rcpt
    from atoll.protocols.smtp.sasl import Exchange

    def run(data: bytes) -> None:
        text = data.decode("utf-8", "ignore")  # a session refuses a line that is not UTF-8
        for parse in (parse_mail, parse_bdat, lambda text: parse_rcpt(text, utf8=True)):
            with suppress(Refuse):
                parse(text)
        for inside in (inside_mail, inside_rcpt):
            with suppress(Refuse):
                inside(data)
        for mechanism in Exchange.MECHANISMS:
            with suppress(NotSasl):
                exchange = Exchange(mechanism)
                for line in data.split(b"\n"):
                    exchange.answer(line)

    return run


def smtp_replies() -> Target:
    from atoll.formats.smtp.replies import ReplyParser

    def replies(parts: list[bytes]) -> list[object]:
        parser, found = ReplyParser(), []
        try:
            for part in parts:
                parser.feed(part)
                while (reply := parser.next()) is not None:
                    found.append(reply)
        except ValueError:
            found.append("not a reply")
        return found

    def run(data: bytes) -> None:
        whole, parts = pieces(data[:4000])
        assert replies([whole]) == replies(parts)

    return run


def lmtp() -> Target:
    import asyncio

    from atoll.protocols.lmtp import server as lmtp_server

    class Wire(asyncio.Transport):
        """The transport's end of the line: writes are kept, nothing is answered."""

        said = b""
        closed = False

        def write(self, data: bytes | bytearray | memoryview) -> None:
            self.said += data

        def is_closing(self) -> bool:
            return self.closed

        def close(self) -> None:
            self.closed = True

        abort = close

    def run(data: bytes) -> None:
        _, parts = pieces(data)
        session = lmtp_server.LmtpSession.__new__(lmtp_server.LmtpSession)
        lmtp_server.LmtpSession.__init__(session, None)  # type: ignore[arg-type] -- nothing is delivered
        session._transport = wire = Wire()
        for part in parts:
            if not wire.closed and b"BDAT" not in part.upper():
                session.data_received(part)

    return run


def imap_reader() -> Target:
    from atoll.protocols.imap.limits import Limits
    from atoll.protocols.imap.wire.reader import Command, Reader

    small = Limits(line=64, literal=20, command=60, append=40, append_command=100, drain=30)

    def events(parts: list[bytes]) -> list[object]:
        reader, found = Reader(small.line, small.literal_limit, small.drain), []
        for part in parts:
            reader.feed(part)
            while (event := reader.next()) is not None:
                found.append(event)
                if isinstance(event, Command) and event.data.endswith(b"IDLE"):
                    reader.expect_line()
            assert len(reader) <= small.line * 2 + small.append_command + len(part)
        return found

    def run(data: bytes) -> None:
        whole, parts = pieces(data)
        assert events([whole]) == events(parts)

    return run


def imap_commands() -> Target:
    from atoll.protocols.imap.commands import COMMANDS
    from atoll.protocols.imap.errors import Bye, No
    from atoll.protocols.imap.wire import response
    from atoll.protocols.imap.wire.cursor import Cursor
    from atoll.protocols.imap.wire.errors import Bad
    from atoll.protocols.imap.wire.fetch import parse_fetch, parse_store, print_fetch, print_store
    from atoll.protocols.imap.wire.search import parse_search, print_search

    again: dict[str, tuple[Callable[[Cursor], Any], Callable[[Any], bytes]]] = {
        "FETCH": (parse_fetch, print_fetch), "STORE": (parse_store, print_store),
        "SEARCH": (parse_search, print_search)}

    def run(data: bytes) -> None:
        with suppress(Bad, No, Bye):
            cur = Cursor(data, utf8_names=data[:1] == b"u")
            cur.tag()
            cur.space()
            name = cur.word()
            if name == "UID":
                cur.space()
                name = "UID " + cur.word()
            if (command := COMMANDS.get(name)) is None:
                return
            start = cur.at
            args = command.parse(cur)
            assert cur.at == len(data)
            if name in again:
                parse, write = again[name]
                value = parse(Cursor(data[start:]))
                assert value == args
                text = write(value)
                assert parse(Cursor(text)) == value
        response.status(b"a", "BAD", "text")

    return run


def imap_names() -> Target:
    from atoll.protocols.imap.wire import utf7
    from atoll.protocols.imap.wire.errors import Bad
    from atoll.protocols.imap.wire.patterns import Pattern

    def run(data: bytes) -> None:
        with suppress(Bad):
            assert utf7.encode(utf7.decode(data)) == data
        first, _, second = data.decode("utf-8", "replace").partition("\n")
        Pattern(first).matches(second)

    return run


def pop3() -> Target:
    from atoll.formats.sasl import NotSasl, plain, unbase64
    from atoll.protocols.pop3.wire.lines import Reader, TooLong, number, parse

    def lines(parts: list[bytes]) -> list[object]:
        reader, found = Reader(255), []
        try:
            for part in parts:
                reader.feed(part)
                while (line := reader.next()) is not None:
                    found.append(line)
        except TooLong:
            found.append("too long")
        return found

    def run(data: bytes) -> None:
        whole, parts = pieces(data)
        found = lines([whole])
        assert found == lines(parts)
        for line in found:
            if isinstance(line, bytes):
                command = parse(line)
                for word in command.words():
                    number(word)
                with suppress(NotSasl):
                    plain(unbase64(line))

    return run


def mime() -> Target:
    from atoll.formats.mime import body_of, decode, find_part, header_lines, scan, section
    from atoll.formats.mime.tree import parse_tree
    from tests.formats.wire_reader import read_value

    def run(data: bytes) -> None:
        scanned = scan(data)
        for wire in (scanned.envelope, scanned.structure, body_of(scanned.structure)):
            assert read_value(wire)[1] == len(wire)
        assert len(scanned.preview) <= 256
        b"".join(raw for _, raw in header_lines(data))
        tree = parse_tree(data)
        for path in ((), (1,), (2,), (1, 1), (1, 2, 1)):
            part = find_part(tree, path)
            assert part == section(data, path)
            if part is not None:
                decode(data[part.body[0]:part.body[1]], "base64")
                decode(data[part.body[0]:part.body[1]], "quoted-printable")

    return run


def search_text() -> Target:
    from atoll.formats.mime import search_text as words_of

    def run(data: bytes) -> None:
        found = words_of(data)
        found.body.encode("utf-8")
        found.subject.encode("utf-8")

    return run


def mime_values() -> Target:
    from atoll.formats.mime import base_subject, decoded, parse_date
    from atoll.formats.mime.addresses import parse_addresses
    from atoll.formats.mime.html import html_to_text
    from atoll.formats.mime.params import parse_disposition, parse_type

    def run(data: bytes) -> None:
        text = decoded(data)
        text.encode("utf-8")
        base_subject(text)
        parse_date(data)
        parse_addresses(data)
        parse_type(data)
        parse_disposition(data)
        html_to_text(data.decode("utf-8", "replace"))

    return run


def rpc() -> Target:
    import msgspec

    from atoll.admin import ops
    from atoll.directory.client import wire
    from atoll.runtime.frames import FrameReader

    kinds = [kind for module in (ops, wire) for kind in vars(module).values()
             if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]
    decoders = [msgspec.msgpack.Decoder(kind) for kind in kinds]
    heads: list[Any] = [msgspec.msgpack.Decoder(tuple[int, str, msgspec.Raw]),
                        msgspec.msgpack.Decoder(tuple[str, str, list[str]])]

    def frames(parts: list[bytes]) -> list[object]:
        reader, found = FrameReader(), []
        try:
            for part in parts:
                found += reader.feed(part)
        except ValueError:
            found.append("too long")
        return found

    def run(data: bytes) -> None:
        whole, parts = pieces(data)
        found = frames(parts)
        assert [frame for frame in frames([whole]) if frame != "too long"] in (found, found[:-1], [])
        for body in (whole, *(frame for frame in found if isinstance(frame, bytes))):
            for decoder in (*heads, decoders[len(body) % len(decoders)]):
                with suppress(msgspec.DecodeError, UnicodeDecodeError):  # both end the connection
                    decoder.decode(body)

    return run


def token() -> Target:
    from atoll.directory.client.tokens import BadToken, TokenVerifier, _mac
    from atoll.runtime.peers import Peer
    from tests.mailbox.kit import StillClock

    key = bytes(range(32))

    def run(data: bytes) -> None:
        import base64

        # Half of what is tried is signed rightly: else nothing would ever be seen of what comes behind the signature.
        signed = b"A1." + base64.urlsafe_b64encode(data).rstrip(b"=")
        right = signed + b"." + base64.urlsafe_b64encode(_mac(key, signed)).rstrip(b"=")
        for text in (data, right):
            try:
                claims = TokenVerifier(key, "mailbox-1.x", "imap", StillClock()).verify(text, Peer(1, 2, 3))
            except BadToken:
                continue
            assert text is right
            assert (claims.aud, claims.pro, claims.fe) == ("mailbox-1.x", "imap", 1)

    return run


def config() -> Target:
    from atoll.base.config import ConfigError, parse

    def run(data: bytes) -> None:
        with suppress(ConfigError):
            parse(data.decode("utf-8", "replace"), {})

    return run


def store_values() -> Target:
    """What comes back to us from clients that keep a copy: tokens and sets."""
    from atoll.mailbox import UidSet, tokens
    from atoll.mailbox.errors import StoreError

    def run(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        for read in (tokens.decode_folder, tokens.decode_mailbox):
            with suppress(StoreError, ValueError):
                read(text, b"k" * 32)
        numbers = [1 + int.from_bytes(data[at:at + 2], "big") for at in range(0, len(data), 2)]
        found = UidSet.of(numbers)
        assert all(number in found for number in numbers)
        assert len(found) == len(set(numbers))

    return run


def import_responses() -> Target:
    from atoll.admin.transfer.names import from_wire
    from atoll.admin.transfer.responses import BadServer, Reader

    def run(data: bytes) -> None:
        _, parts = pieces(data)
        reader = Reader()
        with suppress(BadServer):
            for part in parts:
                reader.feed(part)
                while reader.next() is not None:
                    pass
        from_wire(data)

    return run


def import_files() -> Target:
    import io

    from atoll.admin.transfer.accounts import read_accounts, server_of
    from atoll.admin.transfer.message import checked_date, crlf, seconds_of
    from atoll.admin.transfer.sources.mbox import split

    def run(data: bytes) -> None:
        for _, _, message in split(io.BytesIO(data), 4096):
            if message is not None:
                mended, _ = crlf(message)
                assert mended.count(b"\n") == mended.count(b"\r\n") == mended.count(b"\r")
        seconds_of(checked_date(data))
        text = data.decode("utf-8", "replace")
        with suppress(ValueError):
            server_of(text)
        with suppress(ValueError):
            read_accounts(io.StringIO(text))

    return run


def belief() -> Target:
    """Fields of messages that say who they are from."""
    from atoll.edge import arc, canon, dkim, results
    from atoll.edge.message import Message

    def run(data: bytes) -> None:
        message = Message(data)
        author = message.author()
        assert bool(author.domain) != bool(author.fault)
        for field in message.fields:
            with suppress(dkim.Fault):
                dkim.parsed(field, dkim.read(field), needs_from=True)
            results.said(field.value)
            canon.without_signature(field, relaxed=True)
        with suppress(dkim.Fault):
            arc.sets_of(message.fields)
        for relaxed in (True, False):
            whole = b"".join(canon.body(message, relaxed=relaxed))
            assert not whole or whole.endswith(b"\r\n")
        assert results.ours_alone(message, "mail.example.test", ()).endswith(data[message.body:])

    return run


def belief_records() -> Target:
    """What others put into the DNS: SPF, DMARC, DKIM keys."""
    from atoll.edge import dmarc, spf_record
    from atoll.formats.dkim import keys

    values = dict.fromkeys("slodiphv", "a.b-c@d.example")

    def run(data: bytes) -> None:
        dmarc.read("x.example", [data])
        with suppress(keys.BadKey):
            keys.public_key(data)
        with suppress(ValueError):
            for one in spf_record.record(b"v=spf1 " + data).mechanisms:
                spf_record.expand(one.target, values)

    return run


TARGETS: dict[str, Callable[[], Target]] = {made.__name__: made for made in (
    smtp_reader, smtp_commands, smtp_replies, lmtp, imap_reader, imap_commands, imap_names, pop3, mime, search_text,
    mime_values, rpc, token, config, store_values, import_responses, import_files, belief,
    belief_records)}
