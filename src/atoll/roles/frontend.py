"""The frontend role: TLS, sign-in and proxies of the client protocols, one readable wiring.

In     listening client ports by name (imap, imaps, pop3, ...), the certificate from the supervisor, the directory's
       signin socket.
Out    client connections handed to the mailbox and transport processes, in the client's own protocol.
Spec   PROCESSES 2, 6, 8, 9, 11; docs/seams.md 1.
Fails  see runtime.tls (certificates) and each proxy.
Not    data, signing keys, store code: what is imported here reaches none of them (import contract 3).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import math
import os
import resource
from collections.abc import Callable

from atoll.base.config import Config
from atoll.directory.client.signin import SignIn
from atoll.protocols.imap.proxy import ImapProxy
from atoll.protocols.pop3.proxy import Pop3Proxy
from atoll.protocols.smtp.front import SmtpFront
from atoll.protocols.smtp.types import Limits as SmtpLimits
from atoll.runtime.admission import Admission, Rates, Ticket, among, sessions_for
from atoll.runtime.awaiting import first
from atoll.runtime.listen import Listener
from atoll.runtime.paths import RunPaths
from atoll.runtime.peers import Peer
from atoll.runtime.role import RoleContext, run
from atoll.runtime.rpc import RpcClient
from atoll.runtime.tls import ServerTls

REFUSALS = {
    "smtp": b"421 4.7.0 Too many connections from your network, try again later\r\n",
    "submission": b"421 4.7.0 Too many connections from your network, try again later\r\n",
    "imap": b"* BYE [LIMIT] Too many connections from your network, try again later\r\n",
    "pop3": b"-ERR [SYS/TEMP] Too many connections from your network, try again later\r\n",
}
"""Words for those whom admission does not let in; where TLS would come first there are none."""
LOOK_SECONDS = 0.5
"""Between looks at who is left when another process has taken over."""
M_MMAP_THRESHOLD = -3
M_TRIM_THRESHOLD = -1
"""malloc.h of glibc."""


async def main(ctx: RoleContext) -> None:
    """Join the proxies to the ports, serve, drain."""
    _memory()
    tls = ServerTls(ctx)
    paths = RunPaths(ctx.data)
    directory = RpcClient(paths.signin)
    sign_in = SignIn(directory, ctx.clock)
    sign_in.start()

    def is_kind(peer: Peer, kind: str) -> bool:
        # Until a role calls listen() itself, the supervisor is who listens (PROCESSES 3).
        return ctx.is_role(peer.pid, kind) or peer.pid in (os.getppid(), os.getpid())

    imap = ImapProxy(sign_in, paths.imap, tls.now, trust=lambda peer: is_kind(peer, "mailbox"))
    pop3 = Pop3Proxy(sign_in, paths.pop, tls.now, trust=lambda peer: is_kind(peer, "mailbox"))
    smtp = SmtpFront(sign_in, paths.smtp_in, paths.submit, tls.now, ctx.clock, host=ctx.config.island.host,
                     limits=_smtp_limits(ctx.config), metrics=ctx.metrics,
                     trust=lambda peer: is_kind(peer, "transport"))

    def reload(config: Config) -> None:
        smtp.limits = _smtp_limits(config)  # of new connections
        checks, networks = smtp.sends and config.checks.mode != "off", config.checks.networks
        smtp.checked = lambda ip: checks and not among(ip, networks)

    smtp.sends = ctx.config.sending.mode != "off"  # transport takes a change over when it starts anew, and so do we
    reload(ctx.config)
    ctx.on_reload(reload)
    services: dict[str, tuple[Callable[[Ticket], asyncio.Protocol], bool]] = {  # name: (its protocol, TLS at once)
        "smtp": (smtp.relay, False), "submission": (smtp.submission, False), "submissions": (smtp.submissions, True),
        "imap": (imap.clear, False), "imaps": (imap.secure, True),
        "pop3": (pop3.clear, False), "pop3s": (pop3.secure, True),
    }
    admission = Admission(ctx.clock, sessions_for(resource.getrlimit(resource.RLIMIT_NOFILE)[0]), _rates(ctx.config))
    smtp.crowded = lambda: admission.crowded
    listeners = [Listener(ctx.listeners[name], factory, admission, tls=tls.now if secure else None,
                          refusal=REFUSALS.get(name, b""))
                 for name, (factory, secure) in services.items() if name in ctx.listeners]
    "example.test".encode("idna")  # imported at first use: before the file system closes
    ctx.restrict(read=[], write=[])
    await ctx.ready()
    for listener in listeners:
        listener.start()
    await ctx.leaving.wait()
    if not ctx.stopping.is_set():
        for listener in listeners:
            listener.stop(cut=False)
        await _let_sessions_end(ctx, listeners, imap, pop3, smtp)
    for listener in listeners:
        listener.stop()
    drain = ctx.drain if ctx.stopping.is_set() else 0.0
    await asyncio.gather(imap.drain(drain), pop3.drain(drain), smtp.drain(drain))
    await directory.close()


async def _let_sessions_end(ctx: RoleContext, listeners: list[Listener], imap: ImapProxy, pop3: Pop3Proxy,
                            smtp: SmtpFront) -> None:
    """Another frontend accepts now [PROCESSES 11]: what ends by itself ends, goodbyes are spread over the drain time.

    A TLS session cannot move to another process: so that not all come back at once, of n IMAP sessions at most
    n * (what is left of the time) remain at any moment. Whoever is in a handshake was accepted: it is a session too.
    Returns when nobody is left, or the time is over, or the island stops.
    """
    begin, drain = ctx.clock.monotonic(), ctx.drain
    await first(asyncio.gather(*(listener.opened() for listener in listeners)), ctx.stopping.wait(), within=drain)
    crowd = len(imap.clients)
    sending = asyncio.create_task(smtp.drain(drain))
    while (imap.clients or pop3.clients or smtp.sessions) and not ctx.stopping.is_set():
        left = 1 - (ctx.clock.monotonic() - begin) / drain if drain else 0.0
        if left <= 0:
            break
        for client in list(imap.clients)[math.ceil(crowd * left):]:
            client.bye()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ctx.stopping.wait(), min(LOOK_SECONDS, drain * left))
    sending.cancel()


def _memory() -> None:
    """uvloop keeps 256 KiB for each TLS connection and touches a page of it: such blocks come from mmap, each alone.

    On the heap their neighbours' freed pages stay dirty: 51 KB a connection instead of 28, measured. What streams by
    in pieces (a socket holds 208 KiB) stays on the heap, and some of what is freed is kept: mapped anew for each piece,
    its pages cost half of the CPU of a listing.
    """
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, 224 << 10)
    libc.mallopt(M_TRIM_THRESHOLD, 4 << 20)


def _rates(config: Config) -> Rates:
    limits = config.admission
    return Rates(limits.open_unauthenticated, limits.new_per_second, limits.burst, limits.trusted)


def _smtp_limits(config: Config) -> SmtpLimits:
    limits = config.smtp
    return SmtpLimits(limits.message_bytes, limits.recipients, limits.messages_per_connection,
                      limits.messages_per_minute, limits.recipients_per_hour)


if __name__ == "__main__":
    run(main)
