"""The island itself: how soon it is ready, what it costs when nobody comes."""

from __future__ import annotations

import time

from bench.rows import Figure, Row, Scale, at_most
from bench.server import Server

OP = "an idle demo island"


def measure(server: Server, scale: Scale) -> list[Figure]:
    server.restart()
    ready = server.ready_after
    time.sleep(5)
    memory, cpu = server.group.memory(), server.group.cpu()
    time.sleep(5)
    used = server.group.cpu() - cpu
    return [
        Figure(
            OP,
            1,
            ready,
            used,
            0,
            {
                "ready_s": server.ready_after,
                "pss_mb": memory.pss / 1e6,
                "processes": memory.processes,
                "waiting_cpu_percent": used * 20,
            },
        )
    ]


ISLAND = Row("island", OP, measure, goals=(at_most(OP, "ready_s", 3), at_most(OP, "pss_mb", 300)), alone=True)
