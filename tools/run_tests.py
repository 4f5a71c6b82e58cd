"""run_tests(1): the whole test run, as `make test` and the continuous integration want it.

In     --jobs N (or "auto": one per core), then anything that pytest takes.
Out    pytest's output; its summary is the last line.
Not    a choice of tests: what is marked `soak` belongs to `make soak`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", default="auto")
    options, rest = parser.parse_known_args()
    jobs = len(os.sched_getaffinity(0)) if options.jobs == "auto" else int(options.jobs)
    arguments = ["-m", "pytest", "-m", "not soak"]
    if jobs > 1:
        # One folder of client tests shares an island: it stays with one worker.
        arguments += ["-n", str(jobs), "--dist", "loadscope"]
    os.chdir(ROOT)
    os.execv(sys.executable, [sys.executable, "-P", *arguments, *rest])


if __name__ == "__main__":
    main()
