"""signin.sock and backend.sock: which question goes where, and who may ask it (PROCESSES 3).

In     calls of frontends, mailbox processes and transport; commits of the directory database.
Out    answers; pushes "revoked" and "changed" to every subscriber, before the author of a change is answered.
Fails  denied: the kernel says that the asking process is not the role it speaks for.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import structs

from atoll.base.audit import AuditLog
from atoll.base.clock import Clock
from atoll.base.ids import to_text
from atoll.directory.client import wire
from atoll.directory.client.model import AuditEvent, GroupInfo, Revocation, Sending, SigningKey
from atoll.directory.server import removal
from atoll.directory.server.auth.signin import PasswordSignIn
from atoll.directory.server.database import Database, Event
from atoll.directory.server.quota import QuotaSteps
from atoll.directory.server.recipients import Recipients
from atoll.directory.server.register import Register
from atoll.directory.server.sessions import Grant, NoAudience, Sessions
from atoll.directory.server.shares import Shares
from atoll.runtime.rpc import Call, Connection, Handler, RpcError

MANY_QUESTIONS = 10_000
"""Recipients a frontend asks about in a minute before it is an alarm (PROCESSES 12)."""
CATCH_UP = 10_000
"""Revocations told at once to a client that was away."""


class Service:
    """The handlers of both sockets."""

    def __init__(self, database: Database, recipients: Recipients, register: Register, sessions: Sessions,
                 sign_in: PasswordSignIn, audit: AuditLog, clock: Clock, *, island: str,
                 is_role: Callable[[int, str], bool],
                 signing_keys: Callable[[str], list[SigningKey]] = lambda domain: []) -> None:
        self._db = database
        self._recipients = recipients
        self._register = register
        self._sessions = sessions
        self._sign_in = sign_in
        self._audit = audit
        self._clock = clock
        self._island = island
        self._signing_keys = signing_keys
        self._is_role = is_role
        self._followers: set[Connection] = set()
        self._senders: set[Connection] = set()
        self.steps = QuotaSteps(recipients.mailbox, self._tell_sending)
        self._shares = Shares()
        database.on_committed.append(self._tell)

    def signin_handlers(self) -> dict[str, Handler]:
        """What a frontend may ask: it cannot list or change."""
        return {
            "password": (wire.Password, self.password),
            "recipient": (wire.Address, self.frontend_recipient),
            "is_local_domain": (wire.Domain, self.is_local_domain),
            "subscribe": (wire.Subscribe, self.subscribe),
        }

    def backend_handlers(self) -> dict[str, Handler]:
        """What a mailbox process and transport may ask."""
        return {
            "recipient": (wire.Address, self.recipient),
            "is_local_domain": (wire.Domain, self.is_local_domain),
            "subscribe": (wire.Subscribe, self.backend_subscribe),
            "fates": (wire.FatesOf, self.fates),
            "purge": (wire.Purge, self.purge),
            "quotas": (wire.QuotasOf, self.quotas),
            "quota_steps": (wire.Steps, self.quota_steps),
            "audience": (wire.Audience, self.audience),
            "mailbox": (wire.MailboxId, self.mailbox),
            "mailbox_of": (wire.Address, self.mailbox_of),
            "may_send_as": (wire.SendAs, self.may_send_as),
            "owner_epoch": (wire.OwnerEpoch, self.owner_epoch),
            "signing_keys": (wire.Domain, self.signing_keys),
            "databases": (wire.Databases, self.databases),
            "exchange": (wire.Exchange, self.exchange),
            "ended": (wire.Ended, self.ended),
            "audit": (AuditEvent, self.audit),
            "shares": (wire.Shares, self.shares),
            "shared_with": (wire.SharedWith, self.shared_with),
        }

    def _tell(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Revocation):
                self._sessions.revoked(event.user, event.epoch)
            op = "revoked" if isinstance(event, Revocation) else "changed"
            for follower in list(self._followers):
                follower.push(op, event)

    def left(self, connection: Connection) -> None:
        """A client has gone: tell it nothing more."""
        self._followers.discard(connection)
        self._senders.discard(connection)

    async def subscribe(self, call: Call, ask: wire.Subscribe) -> wire.Subscribed:
        self._followers.add(call.connection)
        missed: list[Revocation] = []
        if ask.since:
            rows = self._db.rows("""SELECT epoch_change, id, epoch, epoch_kind FROM person WHERE epoch_change > ?
                ORDER BY epoch_change LIMIT ?""", (ask.since, CATCH_UP))
            missed = [Revocation(*row) for row in rows if row[3] != "created"]
        change = missed[-1].seq if len(missed) == CATCH_UP else self._db.last_change()
        return wire.Subscribed(change, missed)

    async def backend_subscribe(self, call: Call, ask: wire.Subscribe) -> wire.Subscribed:
        """Those behind the frontends hear as well who may not send."""
        answer = await self.subscribe(call, ask)
        self._senders.add(call.connection)
        answer.stopped = self.steps.stopped()
        return answer

    def _tell_sending(self, said: Sending) -> None:
        for follower in list(self._senders):
            follower.push("sending", said)

    async def quotas(self, call: Call, ask: wire.QuotasOf) -> wire.Quotas:
        self._owns(call, ask.database)
        return wire.Quotas(self._recipients.quotas(ask.database))

    async def quota_steps(self, call: Call, ask: wire.Steps) -> None:
        self._owns(call, ask.database)
        self.steps.report(ask.database, ask.steps, whole=ask.whole)

    async def fates(self, call: Call, ask: wire.FatesOf) -> wire.Fates:
        self._owns(call, ask.database)
        return wire.Fates(removal.fates(self._db, ask.database))

    async def purge(self, call: Call, ask: wire.Purge) -> None:
        self._owns(call, ask.database)
        if ask.mailbox not in [one.mailbox for one in removal.fates(self._db, ask.database)]:
            raise RpcError("not_found", "no removed mailbox of yours")
        await self._audit.durable("mailbox.purge", mailbox=to_text(ask.mailbox), database=ask.database)
        await removal.Removed(self._db).purge("", ask.mailbox)

    def _owns(self, call: Call, database: str) -> None:
        name = self._instance(call).partition(".")[0]
        if database not in [info.name for info in self._recipients.databases(name)]:
            raise RpcError("denied", "not a database of yours")

    async def shares(self, call: Call, ask: wire.Shares) -> None:
        self._owns(call, ask.database)
        self._shares.report(ask.database, ask.shares, whole=ask.whole)

    async def shared_with(self, call: Call, ask: wire.SharedWith) -> wire.MailboxIds:
        live = self._sessions.held_by(self._instance(call), ask.sid)
        return wire.MailboxIds(self._shares.shared_with(live.user) if live is not None else [])

    async def password(self, call: Call, ask: wire.Password) -> wire.Verdict:
        return await self._sign_in.verdict(ask, call.peer.pid)

    async def recipient(self, call: Call, ask: wire.Address) -> wire.Recipient:
        found = self._recipients.recipient(ask.address)
        return wire.Recipient(group=found) if isinstance(found, GroupInfo) else wire.Recipient(found)

    async def frontend_recipient(self, call: Call, ask: wire.Address) -> wire.Recipient:
        """A frontend may ask which addresses exist, as any SMTP client may; a flood of questions is an alarm."""
        minute = int(self._clock.monotonic() // 60)
        if call.connection.state.get("minute") != minute:
            call.connection.state.update(minute=minute, asked=0)
        call.connection.state["asked"] += 1
        if call.connection.state["asked"] == MANY_QUESTIONS:
            self._audit.append("frontend.alarm", frontend=call.peer.pid, why=f"{MANY_QUESTIONS} recipients in a minute")
        answer = await self.recipient(call, ask)
        if answer.group is not None:  # who is in it is no frontend's business
            answer.group = structs.replace(answer.group, members=(), owners=(), senders=())
        return answer

    async def is_local_domain(self, call: Call, ask: wire.Domain) -> wire.YesNo:
        return wire.YesNo(self._recipients.is_local_domain(ask.domain))

    async def audience(self, call: Call, ask: wire.Audience) -> wire.AudienceKey:
        name, dot, start = ask.instance.partition(".")
        if not dot or not start or len(ask.instance) > 128 or not self._is_role(call.peer.pid, name):
            raise RpcError("denied", "not your name")
        call.connection.state["instance"] = ask.instance
        return wire.AudienceKey(self._sessions.key_for(ask.instance))

    def _instance(self, call: Call) -> str:
        instance = call.connection.state.get("instance")
        if not isinstance(instance, str):
            raise RpcError("denied", "ask for your audience first")
        return instance

    async def mailbox(self, call: Call, ask: wire.MailboxId) -> wire.Mailbox:
        return wire.Mailbox(self._recipients.mailbox(ask.mailbox))

    async def mailbox_of(self, call: Call, ask: wire.Address) -> wire.Mailbox:
        return wire.Mailbox(self._recipients.mailbox_of(ask.address))

    async def may_send_as(self, call: Call, ask: wire.SendAs) -> wire.YesNo:
        return wire.YesNo(self._recipients.may_send_as(ask.user, ask.address))

    async def signing_keys(self, call: Call, ask: wire.Domain) -> wire.SigningKeys:
        if self._instance(call).partition(".")[0] != "transport":
            raise RpcError("denied", "transport signs, nobody else")
        return wire.SigningKeys(self._signing_keys(ask.domain))

    async def owner_epoch(self, call: Call, ask: wire.OwnerEpoch) -> wire.Epoch:
        name = self._instance(call).partition(".")[0]
        epoch = await self._register.next_owner_epoch(ask.database, ask.at_least, name, self._island)
        await self._audit.durable("database.epoch", database=ask.database, backend=name, epoch=epoch)
        return wire.Epoch(epoch)

    async def databases(self, call: Call, ask: wire.Databases) -> wire.DatabaseList:
        return wire.DatabaseList(self._recipients.databases(ask.backend))

    async def exchange(self, call: Call, ask: wire.Exchange) -> wire.Verdict:
        live = self._sessions.held_by(self._instance(call), ask.sid)
        target = self._recipients.mailbox(ask.mailbox)
        denied = wire.Verdict(reason="authorization", text="This mailbox may not be opened")
        if live is None or live.user != ask.user or self._recipients.epoch(ask.user) != live.epoch or target is None:
            self._audit.append("auth.denied", user=to_text(ask.user), why="exchange", sid=ask.sid)
            return denied
        grant = Grant(live.user, target.mailbox, live.epoch, ask.protocol, live.address, "exchange", live.facts)
        try:
            signed = self._sessions.issue(target.backend, grant, call.peer.pid)
        except NoAudience:
            return wire.Verdict(reason="temporary", text="The mailbox is not available at the moment", delay=0.3)
        self._audit.append("auth.exchange", user=to_text(live.user), mailbox=to_text(target.mailbox), sid=signed.sid,
                           parent=live.sid, ip=live.facts.ip)
        return wire.Verdict(signed=signed)

    async def ended(self, call: Call, ask: wire.Ended) -> None:
        self._sessions.ended(self._instance(call), ask.sids)

    async def audit(self, call: Call, ask: AuditEvent) -> None:
        origin = call.connection.state.get("instance", "")
        await self._audit.durable(ask.kind, user=ask.user, mailbox=ask.mailbox, ip=ask.ip, protocol=ask.protocol,
                                  outcome=ask.outcome, detail=ask.detail or None, origin=origin.partition(".")[0])
