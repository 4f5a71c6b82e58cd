#!/usr/bin/env python3
"""run(1): measure Atoll beside Debian's Postfix and Dovecot.

    bench/run.py [ROW ...] [--quick] [--runs N] [--only atoll|peer] [--note TEXT]

In:    names of rows (default: all), each of which can be run alone.
Out:   a table on the terminal, bench/results/WHEN.json, and docs/performance.md for a full run.
Fails: a row that raises is reported and the others go on; exit code 1 then.
Not:   a judge of the machine: figures are proportions of one run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[0] = str(HERE.parent)

from bench.report import document, lines, medians  # noqa: E402
from bench.rows import Figure, Row, Scale  # noqa: E402
from bench.rows.folders import APPEND, CHANGEDSINCE, CHANGES, FETCH10K, FETCH100K, SEARCH  # noqa: E402
from bench.rows.growth import GROWTH, SPREAD  # noqa: E402
from bench.rows.island import ISLAND  # noqa: E402
from bench.rows.sessions import BACK, IDLE, MIX_ROW, ONE  # noqa: E402
from bench.rows.smtp import MIXED, SMTP  # noqa: E402
from bench.server import Server  # noqa: E402

ROWS = (
    ISLAND,
    SMTP,
    APPEND,
    FETCH10K,
    CHANGES,
    MIXED,
    MIX_ROW,
    FETCH100K,
    CHANGEDSINCE,
    SEARCH,
    ONE,
    IDLE,
    BACK,
    SPREAD,
    GROWTH,
)


@contextlib.contextmanager
def running(only: str, rows: list[Row]) -> Iterator[list[Server]]:
    """Both sides, started; stopped whatever happens."""
    servers: list[Server] = []
    try:
        if only != "atoll" and any(not row.alone for row in rows):
            from bench.peer import Peer

            servers.append(Peer())
        if only != "peer":
            from bench.atoll import Atoll

            servers.append(Atoll())
        for server in servers:
            server.start()
        yield servers
    finally:
        with contextlib.ExitStack() as stack:  # each is stopped, whatever the others' stop does
            for server in servers:
                stack.callback(server.stop)


def quiet(servers: list[Server]) -> None:
    """Wait until no server works any more: the search index of what was just filled in is to be caught up."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        before = [server.group.cpu() for server in servers]
        time.sleep(0.5)
        if all(server.group.cpu() - cpu < 0.02 for server, cpu in zip(servers, before, strict=True)):
            return
    print("a server does not become quiet: its figures include that work", file=sys.stderr)


def measure(row: Row, servers: list[Server], scale: Scale, runs: int) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """op -> server -> the values of each run. The sides take turns, and who begins changes with each run."""
    sides = [s for s in servers if not row.alone or s.name == "atoll"]
    for server in sides:
        row.prepare(server, scale)
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for number in range(runs):
        for server in sides if number % 2 == 0 else reversed(sides):
            quiet(sides)
            for figure in row.measure(server, scale):
                assert isinstance(figure, Figure)
                found.setdefault(figure.op, {}).setdefault(server.name, []).append(figure.values())
    return found


def facts(args: argparse.Namespace) -> dict[str, Any]:
    done = subprocess.run(
        ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "when": time.strftime("%FT%TZ", time.gmtime()),
        "commit": done.stdout.strip(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "load": os.getloadavg(),
        "quick": args.quick,
        "runs": args.runs,
        "note": args.note,
    }


def main() -> int:
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of: {' '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, for a look while programming")
    parser.add_argument("--runs", type=int, default=0, help="default 3, quick 1")
    parser.add_argument("--only", choices=("atoll", "peer"), default="")
    parser.add_argument("--note", default="", help="kept in the result")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md also for a partial run")
    parser.add_argument("--add", type=Path, help="an earlier result, whose other rows are taken over")
    args = parser.parse_args()
    for name in args.rows:
        if name not in names:
            parser.error(f"no row named {name}; there are: {' '.join(names)}")
    args.runs = args.runs or (1 if args.quick else 3)
    # told to stop: leave through the finally that stops both servers
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rows = [row for row in ROWS if not args.rows or row.name in args.rows]
    result: dict[str, Any] = {**facts(args), "rows": {}, "failed": {}}
    if args.add:
        older = json.loads(args.add.read_text())
        result["rows"], result["note"] = older["rows"], f"{result['note']} Other rows of {older['when']}.".strip()
    (HERE / "results").mkdir(exist_ok=True)
    path = HERE / "results" / (result["when"].replace(":", "") + ".json")
    with running(args.only, rows) as servers:
        for row in rows:
            if row.alone and not any(s.name == "atoll" for s in servers):
                continue
            print(f"{row.name}: {row.title}", file=sys.stderr)
            try:
                found = measure(row, servers, Scale(args.quick), args.runs)
            except Exception as error:
                traceback.print_exc()
                result["failed"][row.name] = f"{type(error).__name__}: {error}"
                continue
            result["rows"][row.name] = found
            path.write_text(json.dumps(result, indent=1) + "\n")
            for line in lines(row, medians(found)):
                print(line, flush=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{path}", file=sys.stderr)
    if args.write or (not args.rows and not args.quick and not args.only):
        (HERE.parent / "docs" / "performance.md").write_text(document(result, ROWS))
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
