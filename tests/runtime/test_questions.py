"""What strangers' name servers may answer, on a real socket: lies, silence, too much [N001]."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from atoll.base.clock import SystemClock
from atoll.runtime import questions
from atoll.runtime.egress import Away
from atoll.runtime.questions import Questions

Answer = Callable[[dns.message.QueryMessage], dns.message.Message | None]
SOA = "ns.x. host.x. 1 60 60 600 {}"


class Clock(SystemClock):
    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


class Server(asyncio.DatagramProtocol):
    """Answers as a test says; asked: every question that came."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: Answer = lambda query: records(query, "TXT", '"x"')

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: object) -> None:
        query = dns.message.from_wire(data)
        assert isinstance(query, dns.message.QueryMessage)
        self.asked.append(str(query.question[0].name))
        answer = self.answer(query)
        if answer is not None:
            self.transport.sendto(answer.to_wire(max_size=65535), address)  # type: ignore[attr-defined]


def records(query: dns.message.QueryMessage, kind: str, *values: str, ttl: int = 300) -> dns.message.Message:
    answer = dns.message.make_response(query)
    answer.flags |= dns.flags.RA
    if values:
        answer.answer.append(dns.rrset.from_text(query.question[0].name, ttl, "IN", kind, *values))
    return answer


def no(query: dns.message.QueryMessage, code: str, minimum: int | None = None) -> dns.message.Message:
    answer = records(query, "TXT")
    answer.set_rcode(dns.rcode.from_text(code))
    if minimum is not None:
        answer.authority.append(dns.rrset.from_text("x.", 900, "IN", "SOA", SOA.format(minimum)))
    return answer


class Desk:
    def __init__(self, server: Server, port: int) -> None:
        self.server = server
        self.clock = Clock()
        self.told: list[str] = []
        self.names = Questions([f"127.0.0.1:{port}"], self.clock, lambda state, text: self.told.append(state))


@pytest.fixture
async def desk(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    monkeypatch.setattr(questions, "QUESTION_SECONDS", 1.0)
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(Server, ("127.0.0.1", 0))
    yield Desk(server, transport.get_extra_info("sockname")[1])
    transport.close()


async def test_what_records_say(desk: Desk) -> None:
    desk.server.answer = lambda query: records(query, "TXT", '"v=spf1 " "-all"', '"other"')
    assert sorted(await desk.names.text("a.x")) == [b"other", b"v=spf1 -all"]
    desk.server.answer = lambda query: records(query, "MX", "20 b.x.", "10 a.x.", "0 .")
    assert await desk.names.hosts("a.x", "MX") == ("", "a.x", "b.x")
    desk.server.answer = lambda query: records(query, "AAAA", "2001:db8::1")
    assert await desk.names.addresses("a.x", "AAAA") == ("2001:db8::1",)
    desk.server.answer = lambda query: records(query, "PTR", "host.x.")
    assert await desk.names.hosts("1.2.0.192.in-addr.arpa", "PTR") == ("host.x",)


async def test_there_is_no_such_thing(desk: Desk) -> None:
    desk.server.answer = lambda query: no(query, "NXDOMAIN")
    assert await desk.names.text("a.x") == ()
    desk.server.answer = lambda query: no(query, "NOERROR")
    assert await desk.names.text("b.x") == ()


@pytest.mark.parametrize("code", ["SERVFAIL", "REFUSED", "FORMERR", "NOTIMP"])
async def test_an_error_is_no_answer(desk: Desk, code: str) -> None:
    desk.server.answer = lambda query: no(query, code)
    with pytest.raises(Away):
        await desk.names.text("a.x")
    desk.server.answer = lambda query: records(query, "TXT", '"y"')
    assert await desk.names.text("a.x") == (b"y",), "it is not remembered"


async def test_silence(desk: Desk) -> None:
    desk.server.answer = lambda query: None
    begin = time.monotonic()
    with pytest.raises(Away):
        await desk.names.text("a.x")
    assert time.monotonic() - begin < 5


def loop(query: dns.message.QueryMessage) -> dns.message.Message:
    answer = records(query, "TXT")
    for one, other in (("a.x.", "b.x."), ("b.x.", "a.x.")):
        answer.answer.append(dns.rrset.from_text(one, 60, "IN", "CNAME", other))
    return answer


def cut(query: dns.message.QueryMessage) -> dns.message.Message:
    answer = records(query, "TXT", '"half"')
    answer.flags |= dns.flags.TC  # and nobody listens on TCP
    return answer


def another(query: dns.message.QueryMessage) -> dns.message.Message:
    answer = records(query, "TXT")
    answer.answer.append(dns.rrset.from_text("evil.x.", 60, "IN", "TXT", '"v=spf1 +all"'))
    return answer


def forged(query: dns.message.QueryMessage) -> dns.message.Message:
    answer = records(query, "TXT", '"forged"')
    answer.id = query.id ^ 1
    return answer


@pytest.mark.parametrize("lie", [loop, cut, another, forged])
async def test_lies_say_nothing(desk: Desk, lie: Answer) -> None:
    desk.server.answer = lie
    try:
        assert await desk.names.text("a.x") == ()
    except Away:
        pass
    desk.server.answer = lambda query: no(query, "NOERROR")
    assert await desk.names.text("evil.x") == (), "what nobody asked about is not believed"


async def test_names_that_are_none_are_not_asked(desk: Desk) -> None:
    for name in ("a" * 64 + ".x", "a..x", "", ".", "\ud800.x", ".".join("abcdefghi" * 20)):
        assert await desk.names.text(name) == ()
    assert desk.server.asked == []
    await desk.names.text(r"a\.b.x")
    await desk.names.text("\u00e4@\0 .x")
    assert desk.server.asked == [r"a\\.b.x.", r"\195\164\@\000\032.x."]


async def test_one_question_for_all_who_wait(desk: Desk) -> None:
    await asyncio.gather(*[desk.names.text("A.x." if at % 2 else "a.X") for at in range(50)])
    assert len(desk.server.asked) == 1


async def test_who_stops_waiting_stops_nobody_else(desk: Desk) -> None:
    first = asyncio.create_task(desk.names.text("a.x"))
    await asyncio.sleep(0)
    second = asyncio.create_task(desk.names.text("a.x"))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == (b"x",)


async def test_answers_are_kept_as_long_as_they_say(desk: Desk) -> None:
    for kind, answer, seconds in (("yes", lambda query: records(query, "TXT", '"x"', ttl=300), 300),
                                  ("no", lambda query: no(query, "NXDOMAIN", 30), 30),
                                  ("none", lambda query: no(query, "NOERROR", 40), 40),
                                  ("long", lambda query: records(query, "TXT", '"x"', ttl=10**9), 86_400)):
        desk.server.answer = answer
        desk.server.asked.clear()
        name = f"{kind}.x"
        await desk.names.text(name)
        desk.clock.ahead += seconds - 2
        await desk.names.text(name)
        assert len(desk.server.asked) == 1, kind
        desk.clock.ahead += 3
        await desk.names.text(name)
        assert len(desk.server.asked) == 2, kind
    desk.server.answer = lambda query: records(query, "TXT", '"x"', ttl=0)
    desk.server.asked.clear()
    await desk.names.text("zero.x")
    await desk.names.text("zero.x")
    assert len(desk.server.asked) == 2


async def test_memory_is_bounded_by_octets(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "KEPT_OCTETS", 20_000)
    desk.server.answer = lambda query: records(query, "TXT", '"' + "x" * 200 + '"')
    for at in range(100):
        await desk.names.text(f"{at}.x")
    assert 0 < desk.names._octets <= 20_000
    assert desk.names._octets == sum(one[1] for one in desk.names._kept.values())
    assert ("99.x", "TXT") in desk.names._kept
    desk.server.answer = lambda query: records(query, "TXT", " ".join(['"' + "x" * 255 + '"'] * 80))
    assert len((await desk.names.text("huge.x"))[0]) == 20_400
    assert ("huge.x", "TXT") not in desk.names._kept


async def test_name_servers_that_are_away_are_told_of_and_not_waited_for(desk: Desk,
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "QUESTION_SECONDS", 0.3)
    monkeypatch.setattr(questions, "DEAD_SECONDS", 0.05)
    desk.server.answer = lambda query: None
    asked = [desk.names.text(f"{at}.x") for at in range(questions.DEAD_AFTER)]
    assert all(isinstance(one, Away) for one in await asyncio.gather(*asked, return_exceptions=True))
    assert desk.told == ["warn"]
    begin = time.monotonic()
    with pytest.raises(Away):
        await desk.names.text("more.x")
    assert time.monotonic() - begin < 0.25
    desk.server.answer = lambda query: no(query, "SERVFAIL")
    with pytest.raises(Away):
        await desk.names.text("fail.x")
    assert desk.told == ["warn", "ok"], "one that cannot tell is there"
