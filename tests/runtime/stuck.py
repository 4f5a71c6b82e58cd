"""A role that gets stuck when it is ready: for tests of the watchdog. `python -m tests.runtime.stuck NAME`."""

from __future__ import annotations

import sys
import time

from atoll.runtime.role import RoleContext, run


async def main(ctx: RoleContext) -> None:
    """Ready, then busy for ever, if its name says so."""
    ctx.on_reload(lambda config: ctx.health("level", "ok", config.log.level))
    ctx.metrics.count("things_total", 3, kind="small")
    await ctx.ready()
    if ctx.name == "stuck":
        time.sleep(600)
    if ctx.name == "broken":
        raise ValueError("broken on purpose")
    await ctx.stopping.wait()
    if ctx.name == "slow":
        time.sleep(600)


if __name__ == "__main__":
    run(main)
    sys.exit(0)
