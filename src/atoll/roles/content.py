"""The content role: reads what is costly or dangerous, and has nothing but that to lose.

In     listener content (mailbox roles); one message at a time.
Out    its structure, its text.
Spec   ARCHITECTURE, Processes of an island; SECURITY 1, rules 1 and 6.
Fails  a message that ends the process is refused to the one who asked; the supervisor starts another.
Not    a file, a key, a network, a memory of the last message.
"""

from __future__ import annotations

from atoll.content.server import ContentServer, bound_memory
from atoll.runtime.role import RoleContext, run


async def main(ctx: RoleContext) -> None:
    """Serve until told to stop."""
    server = ContentServer(lambda peer: ctx.is_role(peer.pid, "mailbox"))
    for outcome in ("done", "refused"):
        ctx.metrics.gauge("content_jobs", lambda outcome=outcome: server.counts[outcome],  # type: ignore[misc]
                          outcome=outcome)
    server.start(ctx.listeners["content"])
    if not ctx.single:
        bound_memory()  # the other roles of a shared process need more
    ctx.restrict(read=[], write=[], threads=False)
    await ctx.ready()
    await ctx.stopping.wait()
    server.stop()


if __name__ == "__main__":
    run(main)
