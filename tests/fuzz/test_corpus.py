"""Every input that is kept in the corpus, once through its parser; needs no fuzzer. What was found stays mended."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.planted import PLANTED
from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_once_found(name: str) -> None:
    run = TARGETS[name]()
    inputs = sorted((CORPUS / name).iterdir())
    assert inputs
    for path in inputs:
        data = path.read_bytes()
        run(data)
        for cut in range(1, 16) if path.name.startswith("seed-") else ():
            run(bytes([cut]) + data)


def test_the_corpus_and_the_words_are_of_targets_that_there_are() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert {path.stem for path in (CORPUS.parent / "words").iterdir()} <= set(TARGETS)
    assert {target for target, _ in PLANTED.values()} <= set(TARGETS)
