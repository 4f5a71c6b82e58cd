"""What is to become of each recipient of a message: pure, so that its way and the explanation of it are one code.

In     an envelope, addresses, what the directory said of them so far (Known).
Out    Plan: who is delivered to which mailbox, what leaves for which domain, who is refused and why, which groups were
       expanded; or what has to be asked before it is complete.
Spec   ARCHITECTURE "Transport": resolve recipients, expand groups with loop detection. [RFC 5321 §3.9] expansion,
       §5.1 for domains.
Fails  never: whom the directory could not be asked about waits.
Not    how to get there (pipeline, send), what a mailbox does with it (delivery).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from atoll.directory.client.model import Addressee, GroupInfo, RecipientInfo
from atoll.formats.smtp import replies
from atoll.formats.smtp.replies import Reply
from atoll.transport.envelope import Envelope

MAX_EXPANDED = 10_000
"""Recipients that one message may have once its groups are expanded."""


@dataclass(slots=True)
class Known:
    """The directory's answers. An address or domain that it could not be asked about is in `away`."""

    recipients: dict[str, Addressee | None] = field(default_factory=dict)
    local_domains: dict[str, bool] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Plan:
    """By address. origins: an address that a group stands for -> the address that the sender wrote."""

    deliver: dict[str, RecipientInfo] = field(default_factory=dict)
    leave: dict[str, str] = field(default_factory=dict)
    """Address -> domain, as the DNS writes it."""
    over: dict[str, Reply] = field(default_factory=dict)
    """Refused, waiting for the directory, or (250) a group whose members stand here instead."""
    origins: dict[str, str] = field(default_factory=dict)
    expanded: dict[str, int] = field(default_factory=dict)
    """Group -> how many it stands for, for the trace."""
    ask_recipients: list[str] = field(default_factory=list)
    ask_domains: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return not self.ask_recipients and not self.ask_domains


def categorize(envelope: Envelope, addresses: Iterable[tuple[str, str]], known: Known, *, sends: bool) -> Plan:
    """The plan for (address, the address that the sender wrote). sends: does mail leave this island?"""
    plan = Plan()
    todo = [(address, origin) for address, origin in addresses]
    seen = {address.casefold() for address, _ in todo}
    groups: set[bytes] = set()
    while todo:
        address, origin = todo.pop()
        if origin != address:
            plan.origins[address] = origin
        if address in known.away:
            plan.over[address] = replies.TRY_LATER
        elif address not in known.recipients:
            plan.ask_recipients.append(address)
        elif isinstance(found := known.recipients[address], RecipientInfo):
            plan.deliver[address] = found
        elif found is None:
            _foreign(envelope, address, known, plan, sends=sends)
        elif found.group in groups:
            plan.over[address] = replies.EXPANDED  # it is among its own members, or was named twice
        elif (refusal := _refusal(envelope, found)) is not None:
            plan.over[address] = refusal
        else:
            groups.add(found.group)
            members = [one for one in found.members if one.casefold() not in seen]
            if len(seen) + len(members) > MAX_EXPANDED:
                plan.over[address] = replies.TOO_MANY_MEMBERS
                continue
            seen |= {one.casefold() for one in members}
            plan.over[address] = replies.EXPANDED
            plan.expanded[address] = len(found.members)
            todo += [(one, origin) for one in members]
    return plan


def _foreign(envelope: Envelope, address: str, known: Known, plan: Plan, *, sends: bool) -> None:
    """Nobody of ours: it leaves, if it may. Whom an administrator put into a group, whoever may write to it reaches."""
    domain = address.rpartition("@")[2].lower()
    if not sends or not (envelope.may_leave or address in plan.origins) or "." not in domain:
        plan.over[address] = replies.NO_MAILBOX
    elif domain in known.away:
        plan.over[address] = replies.TRY_LATER
    elif domain not in known.local_domains:
        plan.ask_domains.append(domain)
    elif known.local_domains[domain]:
        plan.over[address] = replies.NO_MAILBOX
    else:
        try:
            plan.leave[address] = domain.encode("idna").decode("ascii")
        except UnicodeError:
            plan.over[address] = replies.NO_DOMAIN


def _refusal(envelope: Envelope, group: GroupInfo) -> Reply | None:
    """Who may send to it [GroupInfo.who]; a report to a group is refused: it would go to people who wrote nothing."""
    if group.who == "anyone" and envelope.sender:
        return None
    if not envelope.user:
        return replies.GROUP_CLOSED
    sender = envelope.sender.casefold()
    if group.who == "organization" or sender in group.owners or \
            sender in (group.members if group.who == "members" else group.senders):
        return None
    return replies.GROUP_CLOSED
