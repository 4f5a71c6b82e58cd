"""Every transcript runs; every command has one."""

from __future__ import annotations

from pathlib import Path

import pytest

from atoll.protocols.imap import proxy
from atoll.protocols.imap.commands import COMMANDS
from tests.protocols.imap import transcripts
from tests.protocols.imap.conftest import MESSAGES, Site

FOLDER = Path(__file__).parents[2] / "transcripts" / "imap"


TRANSCRIPTS = {path.stem: path.read_text("utf-8") for path in sorted(FOLDER.glob("*.txt"))}


@pytest.mark.parametrize("name", TRANSCRIPTS)
async def test_transcript(site: Site, name: str) -> None:
    await site.put(*MESSAGES)
    await transcripts.run(site, name, TRANSCRIPTS[name])


def test_every_command_has_a_transcript() -> None:
    wanted = {name.lower().replace(" ", "_") for name in [*COMMANDS, *proxy.COMMANDS]}
    assert wanted - set(TRANSCRIPTS) == set()
