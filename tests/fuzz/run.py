"""make fuzz: every parser is fed garbage for a while; what was found interesting is kept for the next time.

In     [--seconds N] [--jobs N] [--planted] [--keep] [TARGET ...]; none: all targets. N seconds each, 60 by default.
Out    one line a target: runs, coverage, size of the corpus. tests/fuzz/corpus/TARGET/ are the seeds, which make test
       replays; .cache/fuzz/TARGET/ is what grew from them. --keep: what of it adds coverage becomes a seed.
Fails  1 when something is found: the input is in tests/fuzz/corpus/TARGET/crash-..., so that make test fails until the
       parser is mended. --planted: the other way round, 1 when a planted bug is not found (from nothing, in N seconds).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
WORDS = ROOT / "tests" / "fuzz" / "words"
GROWN = ROOT / ".cache" / "fuzz"
MAX_INPUT = 8192
INPUT_SECONDS = 5
"""An input that takes longer is a finding: nobody may hold a parser up."""
INPUT_MIB = 1024


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--planted", action="store_true")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("targets", nargs="*")
    asked = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]
    from tests.fuzz.planted import PLANTED
    from tests.fuzz.targets import TARGETS

    if unknown := set(asked.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    with ThreadPoolExecutor(asked.jobs) as pool:
        if asked.planted:
            found = list(pool.map(lambda plant: planted(plant, PLANTED[plant][0], asked.seconds), PLANTED))
            return 0 if all(found) else 1
        clean = list(pool.map(lambda name: fuzz(name, asked.seconds, keep=asked.keep), asked.targets or TARGETS))
        return 0 if all(clean) else 1


def fuzz(name: str, seconds: int, *, keep: bool) -> bool:
    """Nothing found?"""
    grown, seeds = GROWN / name, CORPUS / name
    grown.mkdir(parents=True, exist_ok=True)
    seeds.mkdir(parents=True, exist_ok=True)
    done = run(name, [f"-max_total_time={seconds}", f"-artifact_prefix={seeds}/", *words(name), str(grown), str(seeds)])
    executed = re.findall(r"Done (\d+) runs", done.stderr)
    coverage = re.findall(r"cov: (\d+) ", done.stderr)
    said = "nothing found" if done.returncode == 0 else "FOUND"
    print(f"{name:18} {executed[-1] if executed else '?':>9} runs  coverage {coverage[-1] if coverage else '?':>5}"
          f"  corpus {len(list(grown.iterdir())):>5}  {said}", flush=True)
    if done.returncode:
        print(done.stderr[-4000:], flush=True)
    elif keep:
        run(name, ["-merge=1", str(seeds), str(grown)])
    return done.returncode == 0


def planted(plant: str, name: str, seconds: int) -> bool:
    """Is it found, with no seed at all?"""
    folder = Path(tempfile.mkdtemp(prefix="atoll-fuzz-"))
    try:
        done = run(name, ["--plant", plant, f"-max_total_time={seconds}", f"-artifact_prefix={folder}/", *words(name),
                          str(folder)])
        inputs = [path.read_bytes() for path in folder.glob("crash-*")]
    finally:
        shutil.rmtree(folder)
    print(f"{plant:18} in {name:12} {f'found by {inputs[0]!r}' if inputs else 'NOT FOUND'}", flush=True)
    if not inputs:
        print(done.stderr[-2000:], flush=True)
    return bool(inputs)


def words(name: str) -> list[str]:
    """The target's dictionary, if it has one."""
    path = WORDS / f"{name}.dict"
    return [f"-dict={path}"] if path.exists() else []


def run(name: str, options: list[str]) -> subprocess.CompletedProcess[str]:
    plant, rest = (options[:2], options[2:]) if options[0] == "--plant" else ([], options)
    return subprocess.run(
        [sys.executable, "-P", "-m", "tests.fuzz.target", name, *plant, f"-max_len={MAX_INPUT}",
         f"-timeout={INPUT_SECONDS}", f"-rss_limit_mb={INPUT_MIB}", "-print_final_stats=0", *rest],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, errors="replace", check=False)


if __name__ == "__main__":
    sys.exit(main())
