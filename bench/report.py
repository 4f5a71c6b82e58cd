"""report(7): results to people: medians, ratios, which goals are reached.

In:    op -> server -> values of each run (bench/run.py).
Out:   lines for the terminal; docs/performance.md.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from bench.rows import Goal, Row

Medians = dict[str, dict[str, dict[str, float]]]
PLAIN = {"n", "wall_s", "per_s", "cpu_ms_per_op", "gen_ms_per_op"}


def medians(found: dict[str, dict[str, list[dict[str, float]]]]) -> Medians:
    """op -> server -> key -> median over the runs."""
    return {
        op: {
            server: {key: statistics.median(run.get(key, 0.0) for run in runs) for key in {**runs[-1], **runs[0]}}
            for server, runs in sides.items()
        }
        for op, sides in found.items()
    }


def number(value: float | None) -> str:
    if value is None:
        return "–"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"


def ratio(sides: dict[str, dict[str, float]], key: str) -> float | None:
    if {"peer", "atoll"} <= sides.keys() and sides["peer"].get(key):
        return sides["atoll"][key] / sides["peer"][key]
    return None


def judged(goal: Goal, sides: dict[str, dict[str, float]]) -> tuple[str, bool | None]:
    """(what is asked and what is, reached?); None when one side was not measured."""
    value = ratio(sides, goal.key) if goal.kind == "ratio" else sides.get("atoll", {}).get(goal.key)
    sign, unit = ("≥" if goal.least else "≤"), ("×" if goal.kind == "ratio" else "")
    bound = f"1/{round(1 / goal.bound)}" if goal.kind == "ratio" and goal.bound in (1 / 8,) else f"{goal.bound:g}"
    asked = f"{goal.key} {sign} {bound}{unit}"
    if value is None:
        return asked, None
    return f"{asked}: {number(value)}{unit}", value >= goal.bound if goal.least else value <= goal.bound


def lines(row: Row, found: Medians) -> Iterable[str]:
    for op, sides in found.items():
        for server, values in sides.items():
            more = " ".join(f"{key}={number(value)}" for key, value in values.items() if key not in PLAIN)
            yield (
                f"  {op:44} {server:6} {number(values['per_s']):>10}/s  "
                f"cpu {number(values['cpu_ms_per_op']):>8} ms/op  gen {number(values['gen_ms_per_op'])} {more}"
            )
        for goal in row.goals:
            if goal.op == op:
                text, reached = judged(goal, sides)
                yield f"  {'':44} {'reached' if reached else '-' if reached is None else 'MISSED':8} {text}"


HEAD = """# Performance

Measured by `make bench` (bench/run.py): Atoll in its default processes beside Debian's Postfix and Dovecot (Maildir,
fts-xapian, their durable defaults), on one machine, in one run, the sides taking turns; medians of the runs. Clients
speak IMAP over TLS to both. CPU is that of all processes of the server and is the figure that survives a noisy machine:
trust it and the ratios of one run, not absolute rates. Memory is PSS. One row alone: `bench/run.py ROW --quick`.

How to read it:
- A row begins when no server works any more, so search indexes are caught up; a search brings Dovecot's up to date.
- Dovecot's index of full text makes its MOVE and EXPUNGE slow (without it: tens of thousands per second).
- "cold": the page cache is dropped while nobody has the files open; Dovecot's own cache of envelopes is still there.
  "first time, cold": nobody has listed the folder before.
- IDLE: distinct mailboxes, fifty of them with an INBOX of 10,000. "told" counts from the 250 to EXISTS.
- Accounts are made with one Argon2id hash of the default cost; Dovecot's password costs nothing.
- On two cores the generator (its CPU is `gen`) shares the machine with the server.
"""


def document(result: dict[str, Any], rows: Sequence[Row]) -> str:
    """docs/performance.md."""
    out = [
        HEAD,
        f"Run of {result['when']}, commit {result['commit']}, {result['cores']} cores, Python {result['python']}, "
        f"{result['runs']} runs{' (quick)' if result['quick'] else ''}. {result['note']}".rstrip(),
        "",
    ]
    out += [
        "| work | peer | its CPU per op | Atoll | its CPU per op | rate | CPU | asked | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.name in result["failed"]:
            out.append(f"| {row.title} | | | | | | | not measured: {result['failed'][row.name]} | |")
        for op, sides in medians(result["rows"].get(row.name, {})).items():
            goals = [judged(goal, sides) for goal in row.goals if goal.op == op]
            cells = [op]
            for server in ("peer", "atoll"):
                values = sides.get(server)
                cells += (
                    [f"{number(values['per_s'])}/s", f"{number(values['cpu_ms_per_op'])} ms"] if values else ["–", "–"]
                )
            cells += [
                number(ratio(sides, "per_s")),
                number(ratio(sides, "cpu_ms_per_op")),
                "; ".join(text for text, _ in goals),
            ]
            cells.append("" if not goals else "reached" if all(ok for _, ok in goals) else "**missed**")
            out.append("| " + " | ".join(cells) + " |")
    out += ["", "## Other figures of the same rows", ""]
    for row in rows:
        for op, sides in medians(result["rows"].get(row.name, {})).items():
            for server, values in sides.items():
                more = ", ".join(f"{key} {number(value)}" for key, value in values.items() if key not in PLAIN)
                if more:
                    out.append(f"- {op}, {server}: {more}")
    return "\n".join(out) + "\n"
