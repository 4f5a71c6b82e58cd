"""Real clients against a whole island, over TLS, with the demo's own CA.

A client comes from `.cache/clients/bin` (`make test-deps`) or from PATH. A missing one fails the run with the line to
type; with CLIENTS=found it is skipped, and the end of the run says what was not run.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.mailsite import Site

BIN = Path(__file__).resolve().parents[2] / ".cache" / "clients" / "bin"
NOT_RUN = "not run, client missing: "


def find(name: str) -> str | None:
    path = BIN / name
    return str(path) if path.exists() else shutil.which(name)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture: a run without its clients must not start an island first."""
    for mark in item.iter_markers("client"):
        for name in mark.args:
            if find(name):
                continue
            if os.environ.get("CLIENTS") == "found":
                pytest.skip(NOT_RUN + name)
            pytest.fail(f"{name} is missing. Fetch it with:\nmake test-deps", pytrace=False)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    missing: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", ()):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _, found, name = reason.partition(NOT_RUN)
        if found:
            missing[name] = missing.get(name, 0) + 1
    if missing:
        terminalreporter.section("real clients that were not run")
        for name, count in sorted(missing.items()):
            terminalreporter.write_line(f"{name}: {count} test{'s' * (count != 1)} not run; make test-deps fetches it")


@pytest.fixture
def tool() -> Callable[[str], str]:
    """tool("swaks"): the command to run."""

    def path(name: str) -> str:
        found = find(name)
        assert found, f"{name} is missing: make test-deps"
        return found

    return path


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One island for all tests of this folder: each test makes the accounts that it uses."""
    with Site.start(tmp_path_factory.mktemp("island")) as started:
        yield started


@pytest.fixture
def own_site(tmp_path: Path) -> Iterator[Site]:
    """An island for one test: whose roles it may kill."""
    with Site.start(tmp_path / "island") as started:
        yield started
