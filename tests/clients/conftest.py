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
from tests.island import Island

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
def site(island: Island) -> Site:
    """The shared island: each test makes the accounts that it uses."""
    return Site.of(island)


@pytest.fixture
def own_site() -> Iterator[Site]:
    """An island for one test: whose roles it may kill."""
    with Island() as started:
        yield Site.of(started)
