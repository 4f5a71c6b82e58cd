"""Counters, gauges and histograms of one role; the supervisor gathers and renders them (Prometheus text format 0.0.4).

In     count, observe and gauge calls: a dict update each.
Out    snapshot(): plain values for the control channel; render(): the text of all roles.
Not    label values from clients: a label is a name of ours, so that the number of series is bounded.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Any

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds."""

Key = tuple[str, tuple[tuple[str, str], ...]]


def _key(name: str, labels: dict[str, str]) -> Key:
    return name, tuple(sorted(labels.items()))


class Metrics:
    """The series of this process."""

    def __init__(self) -> None:
        self._counters: dict[Key, float] = {}
        self._histograms: dict[Key, tuple[list[int], list[float]]] = {}
        self._gauges: dict[Key, Callable[[], float]] = {}

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        key = _key(name, labels)
        self._counters[key] = self._counters.get(key, 0) + amount

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Add a duration to a histogram."""
        key = _key(name, labels)
        counts, total = self._histograms.setdefault(key, ([0] * (len(BUCKETS) + 1), [0.0]))
        counts[bisect_left(BUCKETS, seconds)] += 1
        total[0] += seconds

    def gauge(self, name: str, read: Callable[[], float], **labels: str) -> None:
        """A value that is read when it is asked for."""
        self._gauges[_key(name, labels)] = read

    def watch_process(self) -> None:
        """What the kernel says of this process. Cheap: PSS would walk every page at each scrape."""
        page = os.sysconf("SC_PAGE_SIZE")
        self.gauge("process_resident_bytes", lambda: page * _statm()[1])
        self.gauge("process_private_bytes", lambda: page * (_statm()[1] - _statm()[2]))
        self.gauge("process_open_descriptors", lambda: len(os.listdir("/proc/self/fd")))
        self.gauge("process_cpu_seconds", time.process_time)

    def snapshot(self) -> list[list[Any]]:
        """[kind, name, labels, value] of each series; a histogram's value is [counts, sum]."""
        rows: list[list[Any]] = [["counter", name, dict(labels), value]
                                 for (name, labels), value in self._counters.items()]
        rows += [["gauge", name, dict(labels), read()] for (name, labels), read in self._gauges.items()]
        rows += [["histogram", name, dict(labels), [counts, total[0]]]
                 for (name, labels), (counts, total) in self._histograms.items()]
        return rows


def _statm() -> list[int]:
    with open("/proc/self/statm", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


def render(roles: Iterable[tuple[str, list[list[Any]]]]) -> str:
    """The text of every role's snapshot, with a `role` label."""
    series: dict[tuple[str, str], list[str]] = {}
    for role, rows in roles:
        for kind, name, labels, value in rows:
            lines = series.setdefault((f"atoll_{name}", kind), [])
            lines += _lines(f"atoll_{name}", {**labels, "role": role}, kind, value)
    out = []
    for (name, kind), lines in sorted(series.items()):
        out.append(f"# TYPE {name} {kind}")
        out += lines
    return "\n".join(out) + "\n"


def _lines(name: str, labels: dict[str, str], kind: str, value: Any) -> list[str]:
    if kind != "histogram":
        return [f"{name}{_braces(labels)} {value:g}"]
    counts, total = value
    lines, below = [], 0
    for bound, count in zip((*map(str, BUCKETS), "+Inf"), counts, strict=True):
        below += count
        lines.append(f"{name}_bucket{_braces({**labels, 'le': bound})} {below}")
    return [*lines, f"{name}_sum{_braces(labels)} {total:g}", f"{name}_count{_braces(labels)} {below}"]


def _braces(labels: dict[str, str]) -> str:
    return "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"
