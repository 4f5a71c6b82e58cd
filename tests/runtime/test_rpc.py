"""Inside calls: answers in any order, pushes, errors, limits, admission, reconnection."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.runtime import frames, rpc
from atoll.runtime.rpc import Call, Connection, Empty, RpcClient, RpcError, RpcServer


class Say(msgspec.Struct):
    text: str
    wait: float = 0.0


class Service:
    """A server on a socket that can be stopped and started again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked: list[str] = []
        self.left: list[Connection] = []
        self.admit = True
        self.server = RpcServer({"say": (Say, self.say), "fail": (Say, self.fail), "break": (Empty, self.broken),
                                 "many": (Empty, self.many)},
                                lambda peer: self.admit and peer.pid == os.getpid(), on_close=self.left.append)
        self.listener: asyncio.Server | None = None

    async def say(self, call: Call, params: Say) -> Say:
        self.asked.append(params.text)
        await asyncio.sleep(params.wait)
        return Say(params.text + "!")

    async def fail(self, call: Call, params: Say) -> None:
        raise RpcError("exists", params.text)

    async def broken(self, call: Call, params: Empty) -> None:
        raise ZeroDivisionError("the secret of the house")

    async def many(self, call: Call, params: Empty) -> None:
        for number in range(10):
            call.push("count", Say(str(number)))

    async def start(self) -> None:
        self.path.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(self.path))
        sock.listen()
        self.listener = await self.server.serve(sock)

    async def stop(self) -> None:
        assert self.listener is not None
        self.listener.close()
        self.server.close_connections()
        await asyncio.sleep(0.01)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    service = Service(tmp_path / "s")
    await service.start()
    yield service
    await service.stop()


@pytest.fixture
async def client(service: Service) -> AsyncIterator[RpcClient]:
    client = RpcClient(service.path, timeout=5)
    yield client
    await client.close()


async def test_answers_come_in_any_order(client: RpcClient) -> None:
    done: list[str] = []

    async def ask(text: str, wait: float) -> None:
        answer = await client.call("say", Say(text, wait), Say)
        done.append(answer.text)

    await asyncio.gather(ask("slow", 0.1), ask("quick", 0.0))
    assert done == ["quick!", "slow!"]


async def test_errors_keep_code_and_text(client: RpcClient) -> None:
    with pytest.raises(RpcError) as error:
        await client.call("fail", Say("here already"), Empty)
    assert (error.value.code, error.value.text) == ("exists", "here already")


async def test_a_defect_of_a_handler_is_temporary_and_tells_nothing(client: RpcClient) -> None:
    with pytest.raises(RpcError) as error:
        await client.call("break", Empty(), Empty)
    assert error.value.code == "temporary"
    assert "secret" not in error.value.text
    assert (await client.call("say", Say("still here"), Say)).text == "still here!"


@pytest.mark.parametrize(("op", "params"), [("nothing", Empty()), ("say", Empty())])
async def test_unknown_operation_and_wrong_parameters_are_invalid(client: RpcClient, op: str,
                                                                  params: msgspec.Struct) -> None:
    with pytest.raises(RpcError) as error:
        await client.call(op, params, Empty)
    assert error.value.code == "invalid"


async def test_pushes_arrive_in_order_before_the_answer(service: Service) -> None:
    got: list[str] = []
    client = RpcClient(service.path, on_push=lambda op, raw: got.append(msgspec.msgpack.decode(raw, type=Say).text))
    await client.call("many", Empty(), Empty)
    assert got == [str(number) for number in range(10)]
    await client.close()


async def test_a_call_waits_for_a_server_that_is_away_and_the_hook_subscribes_again(tmp_path: Path) -> None:
    service = Service(tmp_path / "s")
    hooks: list[int] = []

    async def hook() -> None:
        hooks.append(1)

    client = RpcClient(service.path, timeout=5, on_connect=hook)
    waiting = asyncio.create_task(client.call("say", Say("early"), Say))
    await asyncio.sleep(0.1)
    await service.start()
    assert (await waiting).text == "early!"
    await service.stop()
    await service.start()
    assert (await client.call("say", Say("again"), Say)).text == "again!"
    assert len(hooks) == 2
    await client.close()
    await service.stop()


async def test_a_call_in_flight_when_the_server_goes_is_temporary_and_not_repeated(service: Service,
                                                                                   client: RpcClient) -> None:
    waiting = asyncio.create_task(client.call("say", Say("once", 0.3), Say))
    while not service.asked:
        await asyncio.sleep(0.01)
    await service.stop()
    await service.start()
    with pytest.raises(RpcError) as error:
        await waiting
    assert error.value.code == "temporary"
    await client.call("say", Say("other"), Say)
    assert service.asked == ["once", "other"]


async def test_a_question_that_may_be_repeated_is(service: Service, client: RpcClient) -> None:
    waiting = asyncio.create_task(client.call("say", Say("twice", 0.3), Say, repeat=True))
    while not service.asked:
        await asyncio.sleep(0.01)
    await service.stop()
    await service.start()
    assert (await waiting).text == "twice!"
    assert service.asked == ["twice", "twice"]


async def test_time_out(client: RpcClient) -> None:
    with pytest.raises(RpcError) as error:
        await client.call("say", Say("late", 2), Say, within=0.05)
    assert error.value.code == "temporary"


async def test_who_is_not_admitted_gets_no_byte(service: Service) -> None:
    service.admit = False
    reader, writer = await asyncio.open_unix_connection(str(service.path))
    assert await reader.read() == b""
    writer.close()
    client = RpcClient(service.path, timeout=0.3)
    with pytest.raises(RpcError) as error:
        await client.call("say", Say("let me in"), Say)
    assert error.value.code == "temporary"
    assert service.asked == []
    await client.close()


async def test_a_client_that_does_not_believe_the_server_sends_nothing(service: Service) -> None:
    client = RpcClient(service.path, timeout=0.3, admit=lambda peer: peer.pid != os.getpid())
    with pytest.raises(RpcError):
        await client.call("say", Say("secret"), Say)
    assert service.asked == []
    await client.close()


@pytest.mark.parametrize("bad", [
    b"\xff\xff\xff\xff",                                           # longer than any frame
    (5000).to_bytes(4, "big"),                                     # a greeting of more than 4 KiB
    frames.frame(["mail", "1", []]),                                  # not ours
    frames.frame(["atoll", "1"]),                                     # greeting out of form
    frames.frame(["atoll", "1", []]) + frames.frame([0, "say", {}]),     # request number 0
    frames.frame(["atoll", "1", []]) + b"\x00\x00\x00\x01\xc1",      # not msgpack
])
async def test_bad_frames_end_that_connection_only(service: Service, client: RpcClient, bad: bytes) -> None:
    await client.call("say", Say("before"), Say)
    reader, writer = await asyncio.open_unix_connection(str(service.path))
    writer.write(bad)
    async with asyncio.timeout(2):
        try:
            while await reader.read(4096):
                pass
        except ConnectionResetError:
            pass
    writer.close()
    assert (await client.call("say", Say("after"), Say)).text == "after!"


async def test_a_newer_peer_with_unknown_extensions_is_served(service: Service) -> None:
    reader, writer = await asyncio.open_unix_connection(str(service.path))
    writer.write(frames.frame(["atoll", "99.0", ["telepathy"]]) + frames.frame([1, "say", {"text": "hi", "new": 1}]))
    reading = frames.FrameReader()
    got: list[bytes] = []
    async with asyncio.timeout(2):
        while len(got) < 2:
            got += reading.feed(await reader.read(100))
    assert msgspec.msgpack.decode(got[1]) == [1, 0, {"text": "hi!", "wait": 0.0}]
    writer.close()


async def test_more_requests_than_may_run_at_once_are_all_answered(service: Service, client: RpcClient) -> None:
    asks = [client.call("say", Say(str(n), 0.01), Say) for n in range(rpc.MAX_IN_FLIGHT * 3)]
    answers = await asyncio.gather(*asks)
    assert [answer.text for answer in answers] == [f"{n}!" for n in range(rpc.MAX_IN_FLIGHT * 3)]


async def test_the_server_hears_that_a_client_left(service: Service, client: RpcClient) -> None:
    await client.call("say", Say("hello"), Say)
    await client.close()
    async with asyncio.timeout(2):
        while not service.left:
            await asyncio.sleep(0.01)
    assert service.left[0].closed.is_set()


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=8), st.lists(st.integers(1, 40), max_size=60))
def test_cutting_the_stream_never_changes_the_frames(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
    reader = frames.FrameReader()
    got: list[bytes] = []
    at = 0
    for size in [*cuts, *([1] * len(stream))]:
        got += reader.feed(stream[at : at + size])
        at += size
    assert got == bodies


async def test_a_peer_that_does_not_read_is_dropped(service: Service, client: RpcClient,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "MAX_UNSENT", 100_000)
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(service.path))
    sock.sendall(frames.frame(["atoll", "1", []]))
    await client.call("say", Say("between"), Say)
    silent = next(one for one in service.server.connections if one.peer_version == "1")
    for _ in range(100):
        silent.push("flood", Say("x" * 10_000))
    async with asyncio.timeout(2):
        await silent.closed.wait()
    assert (await client.call("say", Say("others"), Say)).text == "others!"
    sock.close()


async def test_whoever_comes_while_the_server_stops_is_not_answered(service: Service) -> None:
    """What is asked then is for the next life: it would meet closed files."""
    reader, writer = await asyncio.open_unix_connection(str(service.path))
    await asyncio.sleep(0.05)  # accepted, not greeted
    assert service.listener is not None
    service.listener.close()
    service.server.close_connections()
    writer.write(frames.frame(["atoll", "1", []]) + frames.frame([1, "say", {"text": "late"}]))
    async with asyncio.timeout(5):
        while await reader.read(1000):
            pass
    assert service.asked == []
    writer.close()


async def test_a_hook_that_fails_is_called_again(service: Service) -> None:
    hooks: list[int] = []

    async def hook() -> None:
        hooks.append(1)
        if len(hooks) == 1:
            raise ValueError("something nobody thought of")

    client = RpcClient(service.path, timeout=5, on_connect=hook)
    assert (await client.call("say", Say("hello"), Say)).text == "hello!"
    assert len(hooks) == 2
    await client.close()
