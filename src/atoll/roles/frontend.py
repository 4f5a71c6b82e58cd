"""The frontend role: TLS, sign-in and proxies of the client protocols, one readable wiring.

In     listening client ports by name (imap, imaps, pop3, ...), DATA/tls, the directory's signin socket.
Out    client connections handed to the mailbox and transport processes, in the client's own protocol.
Spec   PROCESSES 2, 6, 8, 9, 11; docs/seams.md 1.
Fails  a certificate that cannot be read stops the start; at a reload the old one stays.
Not    data, signing keys, store code: what is imported here reaches none of them (import contract 3).
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import ssl
from collections.abc import Callable
from pathlib import Path

from atoll.base.config import Config
from atoll.directory.client.signin import SignIn
from atoll.protocols.imap.proxy import ImapProxy
from atoll.protocols.pop3.proxy import Pop3Proxy
from atoll.runtime.admission import Admission, Rates, Ticket, sessions_for
from atoll.runtime.listen import Listener
from atoll.runtime.paths import DataPaths, RunPaths
from atoll.runtime.peers import Peer
from atoll.runtime.role import RoleContext, run
from atoll.runtime.rpc import RpcClient

DRAIN_SECONDS = 2.0

_log = logging.getLogger("atoll.frontend")


class Certificate:
    """The TLS context of now: new connections take the newest that could be read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.context = self._load()

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.num_tickets = 1
        context.load_cert_chain(self._folder / "cert.pem", self._folder / "key.pem")
        return context

    def reload(self, _: Config) -> None:
        """Read it again; one that cannot be read changes nothing."""
        try:
            self.context = self._load()
        except (OSError, ssl.SSLError):
            _log.exception("certificate not read, the one before stays in use")

    def now(self) -> ssl.SSLContext:
        return self.context


async def main(ctx: RoleContext) -> None:
    """Join the proxies to the ports, serve, drain."""
    certificate = Certificate(DataPaths(ctx.data).tls)
    ctx.on_reload(certificate.reload)
    paths = RunPaths(ctx.data)
    directory = RpcClient(paths.signin)
    sign_in = SignIn(directory, ctx.clock)
    sign_in.start()

    def trust(peer: Peer) -> bool:
        # Until a role calls listen() itself, the supervisor is who listens (PROCESSES 3).
        role = ctx.role_of_pid(peer.pid) or ""
        return role.startswith("mailbox-") or peer.pid in (os.getppid(), os.getpid())

    imap = ImapProxy(sign_in, paths.imap, certificate.now, trust=trust)
    pop3 = Pop3Proxy(sign_in, paths.pop, certificate.now, trust=trust)
    services: dict[str, tuple[Callable[[Ticket], asyncio.Protocol], bool]] = {
        "imap": (imap.clear, False), "imaps": (imap.secure, True),
        "pop3": (pop3.clear, False), "pop3s": (pop3.secure, True),
    }
    admission = Admission(ctx.clock, sessions_for(resource.getrlimit(resource.RLIMIT_NOFILE)[0]), _rates(ctx.config))
    listeners = [Listener(ctx.listeners[name], factory, admission, tls=certificate.now if secure else None)
                 for name, (factory, secure) in services.items() if name in ctx.listeners]
    "example.test".encode("idna")  # imported at first use: before the file system closes
    ctx.restrict(read=[DataPaths(ctx.data).tls], write=[])
    await ctx.ready()
    for listener in listeners:
        listener.start()
    await ctx.stopping.wait()
    for listener in listeners:
        listener.stop()
    await asyncio.gather(imap.drain(DRAIN_SECONDS), pop3.drain(DRAIN_SECONDS))
    await directory.close()


def _rates(config: Config) -> Rates:
    limits = config.admission
    return Rates(limits.open_unauthenticated, limits.new_per_second, limits.burst, limits.trusted)


if __name__ == "__main__":
    run(main)
