"""Named places where a test makes the process fail (docs/faults.md).

A failpoint stands at every commit, fsync and reply of transport, delivery and mailbox. It costs one attribute read
while no test is running. ATOLL_FAILPOINTS arms them at start: "name=action[@n]" joined by commas; action is
kill (SIGKILL to oneself), error (OSError EIO), full (OSError ENOSPC), sleep:SECONDS; @n acts on the n-th passage only.
"""

from __future__ import annotations

import errno
import os
import signal
import time


class Failpoints:
    """The armed failpoints of this process."""

    def __init__(self, spec: str = "") -> None:
        self._armed: dict[str, tuple[str, int]] = {}
        self._passed: dict[str, int] = {}
        for item in filter(None, spec.split(",")):
            name, _, action = item.partition("=")
            action, _, nth = action.partition("@")
            self._armed[name.strip()] = (action, int(nth or 0))
        self.active = bool(self._armed)

    def hit(self, name: str) -> None:
        """Act if `name` is armed. Call as: if FAILPOINTS.active: FAILPOINTS.hit("mailbox.commit.before")."""
        if name not in self._armed:
            return
        action, nth = self._armed[name]
        self._passed[name] = self._passed.get(name, 0) + 1
        if nth and self._passed[name] != nth:
            return
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif action == "error":
            raise OSError(errno.EIO, f"failpoint {name}")
        elif action == "full":
            raise OSError(errno.ENOSPC, f"failpoint {name}")
        elif action.startswith("sleep:"):
            time.sleep(float(action[6:]))
        else:
            raise ValueError(f"unknown failpoint action {action!r}")


FAILPOINTS = Failpoints(os.environ.get("ATOLL_FAILPOINTS", ""))
