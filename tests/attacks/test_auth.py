"""AUTH and LOG rows of the attack catalogue: one test per row, named by its id, against the directory on its sockets.

A007 (Kerberos, NTLM), A008 (reset by mail) belong to protocols and services that do not exist yet.
"""

from __future__ import annotations

import ast
import asyncio
import json
import os
import statistics
import time
from pathlib import Path

import pytest

import atoll
from atoll.base import audit
from atoll.directory.client import wire
from atoll.directory.client.model import ClientFacts, Refused, RefusedReason
from atoll.directory.client.tokens import BadToken
from atoll.directory.server.auth import hashes, slowdown
from atoll.directory.server.auth.lane import HashLane, LaneFull
from atoll.runtime.peers import Peer
from tests.directory.conftest import PASSWORD, House
from tests.directory.conftest import house as _house

house = _house
ATTACKER = ClientFacts(ip="198.51.100.66", port=1)
OWNER = ClientFacts(ip="192.0.2.7", port=2)


async def outcome(house: House, login: str, password: bytes, facts: ClientFacts, protocol: str = "imap",
                  ) -> RefusedReason | None:
    ask = wire.Password(protocol, login, password, facts)
    return (await house.parts.sign_in.verdict(ask, os.getpid())).reason


async def test_A001_brute_force_is_slowed_and_locks_nobody_out(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.backend().audience("mailbox-1.x")
    calls = 0
    verify = hashes.verify

    def counted(stored: str, password: bytes) -> bool:
        nonlocal calls
        calls += 1
        return verify(stored, password)

    monkeypatch.setattr(hashes, "verify", counted)
    reasons = [await outcome(house, "alice", b"guess %d" % number, ATTACKER) for number in range(1000)]
    assert reasons[:10] == ["credentials"] * 10
    assert set(reasons[10:]) <= {"slow", "credentials"}
    assert reasons.count("slow") > 950
    assert calls < 30
    # even the right password is not looked at from there: a remembered success would answer guesses
    assert await outcome(house, "alice", PASSWORD, OWNER) is None
    assert await outcome(house, "alice", PASSWORD, ATTACKER) == "slow"
    # the owner, elsewhere, notices nothing
    assert await outcome(house, "alice", PASSWORD, OWNER) is None
    assert await outcome(house, "bob", PASSWORD, ClientFacts(ip="192.0.2.9")) == "temporary"  # right; no mailbox-2
    await house.parts.audit.durable("test.end")
    failed = [event for event in audit.read(house.folder / "dir" / "audit.log") if event["kind"] == "auth.failed"]
    assert 10 <= len(failed) < 30  # told, without flooding the log


async def test_A001_guesses_at_once_do_not_pass_before_one_fails(house: House) -> None:
    reasons = await asyncio.gather(*(outcome(house, "alice", b"guess %d" % n, ATTACKER) for n in range(200)))
    assert reasons.count("credentials") <= 10
    assert set(reasons) == {"credentials", "slow"}


def test_A001_delays_grow_and_end() -> None:
    class Clock:
        now = 1000.0

        def monotonic(self) -> float:
            return self.now

        def now_ms(self) -> int:
            return int(self.now * 1000)

    clock = Clock()
    slow = slowdown.SlowDown(clock)
    delays = []
    for number in range(20):
        slow.failed(b"u", "198.51.100.66", b"%d" % number)
        delays.append(slow.delay(b"u", "198.51.100.66"))
        clock.now += delays[-1]
    assert delays[:9] == [0.0] * 9
    assert delays[9:15] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    assert max(delays) == 60.0
    assert slow.delay(b"u", "192.0.2.7") == 0.0
    clock.now += 61
    assert slow.delay(b"u", "198.51.100.66") == 0.0


async def test_A001_a_forgotten_device_with_one_old_password_is_no_attack(house: House) -> None:
    await house.backend().audience("mailbox-1.x")
    for _ in range(30):
        assert await outcome(house, "alice", b"last year's", OWNER) == "credentials"
    assert await outcome(house, "alice", PASSWORD, OWNER) is None


@pytest.mark.parametrize("protocol", ["imap", "pop3", "submit"])
async def test_A003_unknown_users_take_the_same_time_and_read_the_same(house: House, protocol: str) -> None:
    texts = set()
    differences = []
    for attempt in range(4):  # the machine is shared: its noise may spoil a round, a real difference spoils each
        known: list[float] = []
        unknown: list[float] = []
        for number in range(20):
            ip = f"2001:db8:{attempt}:{number:x}::1"
            for login, times in (("alice@example.test", known), (f"nobody{number}@example.test", unknown)):
                ask = wire.Password(protocol, login, b"guess %d" % number, ClientFacts(ip=ip))
                started = time.process_time_ns()  # the hash thread included; the wall clock says less here
                verdict = await house.parts.sign_in.verdict(ask, os.getpid())
                times.append(time.process_time_ns() - started)
                texts.add((verdict.reason, verdict.text, verdict.delay))
        differences.append(abs(statistics.median(known) / statistics.median(unknown) - 1))
        if differences[-1] < 0.05:
            break
    assert len(texts) == 1
    assert min(differences) < 0.05


async def test_A003_refusals_are_told_on_a_grid_so_the_kind_of_hash_is_hidden(
        house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_in = house.parts.sign_in
    sign_in._floor = 0.2
    from atoll.directory.server.auth import sha512_crypt

    old = "$6$rounds=1000$salt$" + sha512_crypt.digest(b"x", b"salt", 1000)
    await house.parts.register.create_mailbox("old@example.test", hash_=old, database="db1")
    me, sleep, clock = asyncio.current_task(), asyncio.sleep, sign_in._clock
    slept: list[float] = []
    read: list[float] = []

    async def noted(seconds: float) -> None:  # how late a loaded machine wakes it up is not the sign-in's doing
        if asyncio.current_task() is me:
            slept.append(seconds)
        await sleep(seconds)

    class Noted:
        def now_ms(self) -> int:
            return clock.now_ms()

        def monotonic(self) -> float:
            read.append(clock.monotonic())
            return read[-1]

    monkeypatch.setattr(asyncio, "sleep", noted)
    sign_in._clock = Noted()
    for login in ("alice", "old", "nobody", "\x00"):
        slept.clear()
        read.clear()
        started = time.monotonic()
        await outcome(house, login, b"wrong", ClientFacts(ip="203.0.113.5"))
        assert time.monotonic() - started >= 0.19
        told = read[-1] - read[0] + slept[-1]
        assert told / 0.2 == pytest.approx(round(told / 0.2), abs=1e-6)
        assert told > 0.1


async def test_A004_passwords_of_a_megabyte_cost_nothing(house: House) -> None:
    signin = house.sign_in()
    started = time.process_time()
    results = await asyncio.gather(*(signin.password("imap", "alice", b"x" * 1_000_000, ATTACKER) for _ in range(100)),
                                   return_exceptions=True)
    assert all(isinstance(result, Refused) and result.reason == "credentials" for result in results)
    # a broken-into frontend does not ask its own client library first
    reasons = await asyncio.gather(*(outcome(house, "alice", b"x" * 1025, ATTACKER) for _ in range(100)))
    assert set(reasons) == {"credentials"}
    assert time.process_time() - started < 1.0


async def test_A004_the_hash_lane_is_bounded_and_fair(house: House) -> None:
    await house.backend().audience("mailbox-1.x")
    flood = [asyncio.create_task(outcome(house, f"user{n}", b"x", ClientFacts(ip="198.51.100.66"))) for n in range(500)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert house.parts.lane.waiting <= 64
    started = time.monotonic()
    assert await outcome(house, "alice", PASSWORD, OWNER) is None  # takes its turn between the flood's
    assert time.monotonic() - started < 1.0
    reasons = await asyncio.gather(*flood)
    assert reasons.count("temporary") >= 400


async def test_A004_a_newcomer_takes_the_place_of_the_largest_group() -> None:
    lane = HashLane(threads=1, waiting=4)
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work() -> str:
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result()
        return "done"

    flood = [asyncio.create_task(lane.run("f", "many", work)) for _ in range(5)]
    await asyncio.sleep(0.05)
    with pytest.raises(LaneFull):
        await lane.run("f", "many", work)
    other = asyncio.create_task(lane.run("f", "one", work))
    await asyncio.sleep(0.05)
    gate.set()
    assert await other == "done"
    results = await asyncio.gather(*flood, return_exceptions=True)
    assert [isinstance(result, LaneFull) for result in results] == [False, False, False, False, True]
    lane.close()


async def test_A004_a_frontend_that_invents_prefixes_leaves_others_their_share() -> None:
    lane = HashLane(threads=1, waiting=8)
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()
    order: list[str] = []

    def work(name: str) -> None:
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result()
        order.append(name)

    evil = [asyncio.create_task(lane.run("evil", f"10.0.0.{n}", lambda: work("evil"))) for n in range(9)]
    await asyncio.sleep(0.05)
    good = [asyncio.create_task(lane.run("good", "192.0.2.1", lambda: work("good"))) for _ in range(3)]
    await asyncio.sleep(0.05)
    gate.set()
    await asyncio.gather(*good)
    results = await asyncio.gather(*evil, return_exceptions=True)
    assert sum(isinstance(result, LaneFull) for result in results) == 3
    assert order[:6].count("good") >= 2  # turns are between frontends
    lane.close()


def test_A005_secrets_are_compared_in_constant_time() -> None:
    """No == between names that hold a secret, anywhere in the product."""
    secret = ("mac", "token", "password", "secret", "jti", "key")
    found = []
    for path in Path(atoll.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Compare) or not any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
                continue
            sides = [node.left, *node.comparators]
            if any(isinstance(side, ast.Constant) for side in sides):
                continue  # "is it empty?", "which kind is it?"
            names = {getattr(side, "id", getattr(side, "attr", "")) for side in sides}
            if names & set(secret):
                found.append(f"{path.name}:{node.lineno}")
    assert found == []


async def test_A006_an_app_password_is_good_for_its_protocols_only_and_ends(house: House) -> None:
    register = house.parts.register
    backend = house.backend()
    verifiers = {"submit": await backend.verifier("transport.x", "submit")}
    await house.backend().audience("mailbox-1.x")
    entity, secret = await register.create_app_password("alice@example.test", "scanner", ["submit"])
    password = secret.encode()
    assert await outcome(house, "alice", password, OWNER, "submit") is None
    typed = password.upper().replace(b"-", b" ")
    assert await outcome(house, "alice", typed, OWNER, "submit") is None
    assert await outcome(house, "alice", password, OWNER, "imap") == "credentials"  # other protocol
    assert await outcome(house, "bob", password, OWNER, "submit") == "credentials"  # other person
    signed = await house.sign_in().password("submit", "alice", password, OWNER)
    await register.remove_app_password("alice@example.test", entity)
    assert await outcome(house, "alice", password, OWNER, "submit") == "credentials"  # after revoke
    await asyncio.sleep(0.1)
    with pytest.raises(BadToken, match="revoked"):  # and the token that was on its way
        verifiers["submit"].verify(signed.token.encode(), Peer(os.getpid(), 0, 0))


async def test_A006_after_a_password_change_the_old_one_is_dead_cache_included(house: House) -> None:
    await house.backend().audience("mailbox-1.x")
    assert await outcome(house, "alice", PASSWORD, OWNER) is None
    assert await outcome(house, "alice", PASSWORD, OWNER) is None  # remembered
    info = house.parts.recipients.mailbox_of("alice@example.test")
    assert info is not None
    await house.parts.register.set_hash(info.user, hashes.make(b"new password"))
    assert await outcome(house, "alice", PASSWORD, OWNER) == "credentials"
    assert await outcome(house, "alice", b"new password", OWNER) is None


async def test_A006_who_must_use_app_passwords_has_no_basic_sign_in(house: House) -> None:
    await house.backend().audience("mailbox-1.x")
    assert await outcome(house, "alice", PASSWORD, OWNER) is None
    await house.parts.register.change_mailbox("alice@example.test", app_only=True)
    assert await outcome(house, "alice", PASSWORD, OWNER) == "credentials"
    _, secret = await house.parts.register.create_app_password("alice@example.test", "phone", ["imap"])
    assert await outcome(house, "alice", secret.encode(), OWNER) is None


async def test_A006_a_protocol_that_is_taken_away_is_refused(house: House) -> None:
    await house.backend().audience("mailbox-1.x")
    await house.parts.register.change_mailbox("alice@example.test", protocols=["imap"])
    assert await outcome(house, "alice", PASSWORD, OWNER, "pop3") == "protocol"
    assert await outcome(house, "alice", PASSWORD, OWNER) is None


@pytest.mark.parametrize("text", ["a\r\nb", "a\nFAKE", "\x1b[31mred", "nul\x00", "\u202eevil", "\ud800",
                                  "x" * 10_000_000], ids=["crlf", "lf", "esc", "nul", "rlo", "surrogate", "10MB"])
async def test_L001_L002_names_cannot_break_the_audit_log(house: House, text: str) -> None:
    await outcome(house, text[:400], b"x", ClientFacts(ip=text[:400], sni=text))
    house.parts.audit.append("test", user=text, detail={"helo": text})
    await house.parts.audit.durable("test.end")
    raw = (house.folder / "dir" / "audit.log").read_bytes()
    assert raw.count(b"\n") == len([json.loads(line) for line in raw.splitlines()])
    assert max(len(line) for line in raw.splitlines()) < 40_000
    assert not any(byte < 32 and byte != 10 for byte in raw) and max(raw) < 127  # noqa: PT018


async def test_L003_no_secret_in_any_log(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    await house.backend().audience("mailbox-1.x")
    signin = house.sign_in()
    signed = await signin.password("imap", "alice", PASSWORD, OWNER)
    await outcome(house, "alice", b"canary-wrong-password", OWNER)
    await house.parts.audit.durable("test.end")
    logged = caplog.text + (house.folder / "dir" / "audit.log").read_text()
    for secret in (PASSWORD.decode(), "canary-wrong-password", signed.token, signed.token.split(".")[2]):
        assert secret not in logged
