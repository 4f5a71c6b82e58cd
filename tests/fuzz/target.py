"""One target under libFuzzer: python -m tests.fuzz.target NAME [--plant PLANT] [options of libFuzzer] FOLDERS.

Only packages of atoll are instrumented: the fuzzer is to find our branches, not those of the standard library.
"""

from __future__ import annotations

import shlex
import sys

import atheris


def main(name: str, plant: str, options: list[str]) -> None:
    with atheris.instrument_imports(include=["atoll"]):
        from tests.fuzz.planted import PLANTED
        from tests.fuzz.targets import TARGETS

        run = TARGETS[name]()
    if plant:
        PLANTED[plant][1]()
    # To merge, libFuzzer starts itself again by the first word, which a shell reads.
    again = f"{shlex.quote(sys.executable)} -P -m tests.fuzz.target {name}"
    atheris.Setup([again, *options], run)
    atheris.Fuzz()


if __name__ == "__main__":
    words = sys.argv[2:]
    wanted = ""
    if words[:1] == ["--plant"]:
        wanted, words = words[1], words[2:]
    main(sys.argv[1], wanted, words)
