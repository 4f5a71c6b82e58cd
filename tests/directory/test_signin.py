"""Sign-in over the real sockets: tokens, caches, revocation, imported hashes, app passwords."""

from __future__ import annotations

import asyncio
import os

import pytest

from atoll.directory.client import feed
from atoll.directory.client.model import ClientFacts, Refused, Revocation
from atoll.directory.client.tokens import BadToken
from atoll.runtime.peers import Peer
from atoll.runtime.rpc import RpcError

from .conftest import PASSWORD, House

FACTS = ClientFacts(ip="192.0.2.7", port=40000, tls="TLSv1.3")
ME = Peer(os.getpid(), os.getuid(), os.getgid())


async def test_a_password_becomes_a_token_that_opens_one_mailbox_once(house: House) -> None:
    backend = house.backend()
    verifier = await backend.verifier("mailbox-1.start", "imap")
    signed = await house.sign_in().password("imap", "Alice@EXAMPLE.test", PASSWORD, FACTS)
    assert (signed.backend, signed.address) == ("mailbox-1", "alice@example.test")
    claims = verifier.verify(signed.token.encode(), ME)
    assert (claims.sub, claims.mbx, claims.fe, claims.mth) == (signed.user, signed.mailbox, os.getpid(), "password")
    assert (claims.ip, claims.port, claims.tls) == ("192.0.2.7", 40000, "TLSv1.3")
    with pytest.raises(BadToken, match="used before"):
        verifier.verify(signed.token.encode(), ME)


async def test_a_bare_login_name_is_of_the_only_domain(house: House) -> None:
    await house.backend().audience("mailbox-1.start")
    signed = await house.sign_in().password("imap", "alice", PASSWORD, FACTS)
    assert signed.address == "alice@example.test"


@pytest.mark.parametrize("login", ["alice@example.test", "nobody@example.test", "alice@other.test", "", "@", "a" * 9999,
                                   "alice+detail@example.test", "\x00", "alice@example.test\r\n"])
async def test_wrong_password_and_unknown_user_read_alike(house: House, login: str) -> None:
    await house.backend().audience("mailbox-1.start")
    with pytest.raises(Refused) as refused:
        await house.sign_in().password("imap", login, b"wrong", FACTS)
    assert (refused.value.reason, refused.value.text) == ("credentials", "Wrong user name or password")


async def test_without_the_backend_it_is_temporary(house: House) -> None:
    signin = house.sign_in()
    waiting = asyncio.create_task(signin.password("imap", "alice", PASSWORD, FACTS))
    await asyncio.sleep(0.3)
    assert not waiting.done()  # held and tried again
    await house.backend().audience("mailbox-1.start")
    assert (await waiting).backend == "mailbox-1"


async def test_submission_goes_to_transport(house: House) -> None:
    backend = house.backend()
    verifier = await backend.verifier("transport.x", "submit")
    signed = await house.sign_in().password("submit", "bob@example.test", PASSWORD, FACTS)
    assert signed.backend == "transport"
    assert verifier.verify(signed.token.encode(), ME).adr == "bob@example.test"


async def test_a_new_password_ends_sessions_within_a_second(house: House) -> None:
    backend, signin = house.backend(), house.sign_in()
    verifier = await backend.verifier("mailbox-1.start", "imap")
    told: list[Revocation] = []
    arrived = asyncio.Event()
    backend.on_revoked(lambda revocation: (told.append(revocation), arrived.set()))  # type: ignore[func-returns-value]
    signed = await signin.password("imap", "alice", PASSWORD, FACTS)
    await house.parts.register.set_hash(signed.user, house.parts.sign_in._dummy)
    async with asyncio.timeout(1):
        await arrived.wait()
    assert (told[0].user, told[0].kind) == (signed.user, "password")
    with pytest.raises(BadToken, match="revoked"):
        verifier.verify(signed.token.encode(), ME)
    with pytest.raises(Refused):
        await signin.password("imap", "alice", PASSWORD, FACTS)


async def test_who_was_away_is_told_what_he_missed(house: House) -> None:
    backend = house.backend()
    await backend.audience("mailbox-1.start")
    info = await backend.mailbox_of("alice@example.test")
    assert info is not None
    told: list[Revocation] = []
    arrived = asyncio.Event()
    backend.on_revoked(lambda revocation: (told.append(revocation), arrived.set()))  # type: ignore[func-returns-value]
    await house.stop()
    await house.start()
    # before the client is back: its back-off is the time of one connection attempt
    house.servers[1].admit = lambda peer: False
    await house.parts.register.end_sessions(info.user)
    house.servers[1].admit = lambda peer: True
    async with asyncio.timeout(3):
        await arrived.wait()
    assert [(one.user, one.kind) for one in told] == [(info.user, "sessions")]


async def test_a_restarted_directory_gives_a_new_key_and_the_verifier_follows(house: House) -> None:
    backend, signin = house.backend(), house.sign_in()
    verifier = await backend.verifier("mailbox-1.start", "imap")
    old = await signin.password("imap", "alice", PASSWORD, FACTS)
    await house.stop()
    await house.start()
    new = await signin.password("imap", "alice", PASSWORD, FACTS)
    assert verifier.verify(new.token.encode(), ME).sid == new.sid
    assert verifier.verify(old.token.encode(), ME).sid == old.sid  # it was on its way


async def test_a_process_cannot_take_another_role_s_key(house: House) -> None:
    house.is_role = lambda pid, name: name == "mailbox-2"
    with pytest.raises(Exception, match="denied"):
        await house.backend().audience("mailbox-1.start")


async def test_disabled_is_told_only_to_who_knows_the_password(house: House) -> None:
    await house.backend().audience("mailbox-1.start")
    await house.parts.register.enable_mailbox("alice@example.test", False)
    for password, reason in ((b"wrong", "credentials"), (PASSWORD, "disabled")):
        with pytest.raises(Refused) as refused:
            await house.sign_in().password("imap", "alice", password, FACTS)
        assert refused.value.reason == reason


async def test_authzid_names_a_mailbox_and_the_directory_says_where_it_is(house: House) -> None:
    backend = house.backend()
    verifier = await backend.verifier("mailbox-2.start", "imap")
    signin = house.sign_in()
    signed = await signin.password("imap", "alice", PASSWORD, FACTS, authzid="bob@example.test")
    claims = verifier.verify(signed.token.encode(), ME)
    bob = await backend.mailbox_of("bob@example.test")
    assert bob is not None
    assert claims.mbx == bob.mailbox != claims.sub
    assert claims.adr == "alice@example.test"
    with pytest.raises(Refused) as refused:
        await signin.password("imap", "alice", PASSWORD, FACTS, authzid="nobody@example.test")
    assert refused.value.reason == "authorization"


async def test_nobody_submits_as_somebody_else(house: House) -> None:
    """[RFC 4616 §2]: who may not act as that identity is refused, and not taken for himself."""
    await house.backend().audience("transport.start")
    signin = house.sign_in()
    with pytest.raises(Refused) as refused:
        await signin.password("submit", "alice", PASSWORD, FACTS, authzid="bob@example.test")
    assert refused.value.reason == "authorization"
    assert (await signin.password("submit", "alice", PASSWORD, FACTS, authzid="Alice@example.test")).address \
        == "alice@example.test"


@pytest.mark.parametrize("stored", [
    "{SHA512-CRYPT}$6$rounds=1000$saltsalt$", "{SSHA}", "{BLF-CRYPT}", "{ARGON2ID}"])
async def test_an_imported_hash_is_verified_and_made_anew(house: House, stored: str) -> None:
    import base64
    import hashlib

    import argon2
    import bcrypt

    from atoll.directory.server.auth import hashes, sha512_crypt

    if stored == "{SSHA}":
        stored += base64.b64encode(hashlib.sha1(b"old pass" + b"salt").digest() + b"salt").decode()
    elif stored == "{BLF-CRYPT}":
        stored += bcrypt.hashpw(b"old pass", bcrypt.gensalt(4)).decode()
    elif stored == "{ARGON2ID}":
        stored += argon2.PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(b"old pass")
    else:
        stored += sha512_crypt.digest(b"old pass", b"saltsalt", 1000)
    await house.backend().audience("mailbox-1.start")
    register, database = house.parts.register, house.parts.database
    _, person = await register.create_mailbox("carol@example.test", hash_=hashes.normal(stored), database="db1")
    signin = house.sign_in()
    with pytest.raises(Refused):
        await signin.password("imap", "carol", b"other", FACTS)
    await signin.password("imap", "carol", b"old pass", FACTS)
    async with asyncio.timeout(3):
        while True:
            row = database.one("SELECT hash, epoch FROM person WHERE id = ?", (person,))
            if row and hashes.is_ours(row[0]):
                break
            await asyncio.sleep(0.02)
    assert row[1] == 1  # sessions stay
    assert (await signin.password("imap", "carol", b"old pass", FACTS)).address == "carol@example.test"


async def test_exchange_needs_a_live_session_of_the_asking_process(house: House) -> None:
    one, two = house.backend(), house.backend()
    await one.audience("mailbox-1.start")
    verifier = await two.verifier("mailbox-2.start", "imap")
    signed = await house.sign_in().password("imap", "alice", PASSWORD, FACTS)
    bob = await one.mailbox_of("bob@example.test")
    assert bob is not None
    other = await one.exchange(signed.sid, signed.user, bob.mailbox)
    claims = verifier.verify(other.token.encode(), ME)
    assert (claims.sub, claims.mbx, claims.mth) == (signed.user, bob.mailbox, "exchange")
    for backend, sid, user in ((two, signed.sid, signed.user), (one, "none", signed.user), (one, signed.sid, bob.user)):
        with pytest.raises(Refused) as refused:
            await backend.exchange(sid, user, bob.mailbox)
        assert refused.value.reason == "authorization"
    await one.ended([signed.sid])
    with pytest.raises(Refused):
        await one.exchange(signed.sid, signed.user, bob.mailbox)


async def test_the_queue_has_an_epoch_but_gets_no_mailbox(house: House) -> None:
    backend = house.backend()
    await backend.audience("transport.start")
    assert await backend.next_epoch("queue") == 1
    await house.parts.register.create_mailbox("carol@example.test")
    info = house.parts.recipients.mailbox_of("carol@example.test")
    assert info is not None
    assert info.backend == "mailbox-1"
    with pytest.raises(RpcError, match="not_found"):
        await house.parts.register.create_mailbox("dave@example.test", database="queue")
    assert [one.name for one in house.parts.recipients.databases()] == ["db1", "db2"]


async def test_owner_epochs_only_grow_and_survive_a_restart(house: House) -> None:
    backend = house.backend()
    await backend.audience("mailbox-1.start")
    assert await backend.next_epoch("db1") == 1
    assert await backend.next_epoch("db1", at_least=7) == 7
    assert await backend.next_epoch("db1", at_least=3) == 8
    await house.stop()
    await house.start()
    assert await backend.next_epoch("db1") == 9
    with pytest.raises(Exception, match="denied"):
        await backend.next_epoch("db2")  # mailbox-2's
    assert await backend.next_epoch("db3") == 1  # unknown: becomes ours
    assert [info.name for info in await backend.databases("mailbox-1")] == ["db1", "db3"]


async def test_five_minutes_without_the_directory_are_told_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "AWAY_SECONDS", 1.5)
    backend = house.backend()
    told: list[int] = []
    backend.on_away(lambda: told.append(1))
    await backend.databases("mailbox-1")
    await house.stop()
    await house.start()
    await backend.databases("mailbox-1")  # back in time
    await asyncio.sleep(1.7)
    assert told == []
    await house.stop()
    async with asyncio.timeout(20):
        while not told:
            await asyncio.sleep(0.05)
    await asyncio.sleep(1.7)
    await house.start()
    assert told == [1]
