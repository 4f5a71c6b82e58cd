"""rows(7): the rows of the table of figures, each a `Row` that can be run alone.

A row prepares both sides once, then each side is measured in turn, `runs` times, so that the machine's moods fall on
both; the report takes medians. A row whose figure is absolute runs on Atoll alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.server import Server


@dataclass(frozen=True)
class Scale:
    """How much work: the issue's own numbers, or a tenth of them for a quick look."""

    quick: bool = False

    def __call__(self, full: int, quick: int | None = None) -> int:
        return (quick if quick is not None else max(1, full // 10)) if self.quick else full


@dataclass
class Figure:
    """One operation measured once: n operations in `wall` seconds, `cpu` seconds of all the server's processes."""

    op: str
    n: int
    wall: float
    cpu: float
    gen: float = 0.0
    extra: dict[str, float] = field(default_factory=dict)

    def values(self) -> dict[str, float]:
        return {
            "n": self.n,
            "wall_s": self.wall,
            "per_s": self.n / self.wall if self.wall else 0.0,
            "cpu_ms_per_op": self.cpu * 1e3 / self.n,
            "gen_ms_per_op": self.gen * 1e3 / self.n,
            **self.extra,
        }


@dataclass(frozen=True)
class Goal:
    """`key` of operation `op` against `bound`: kind "ratio" compares Atoll / peer, "value" Atoll's own figure.

    `least` says whether the bound is a floor (a rate) or a ceiling (CPU, latency, memory).
    """

    op: str
    key: str
    bound: float
    kind: str = "ratio"
    least: bool = True


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    measure: Callable[[Server, Scale], list[Figure]]
    prepare: Callable[[Server, Scale], Any] = lambda server, scale: None
    goals: tuple[Goal, ...] = ()
    alone: bool = False  # on Atoll only


def rate(op: str, times: float, cpu: float | None = None) -> list[Goal]:
    """Goal: so many times the peer's rate; and its CPU per operation at most `cpu` of the peer's."""
    goals = [Goal(op, "per_s", times)]
    if cpu is not None:
        goals.append(Goal(op, "cpu_ms_per_op", cpu, least=False))
    return goals


def at_most(op: str, key: str, bound: float) -> Goal:
    return Goal(op, key, bound, kind="value", least=False)


def at_least(op: str, key: str, bound: float) -> Goal:
    return Goal(op, key, bound, kind="value")


def pct(values: list[float], q: float) -> float:
    """The q-quantile (0 when there is nothing)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0
