"""Attack rows in which we are the IMAP client (`atoll import`): the old server, or who sits before it, is hostile."""

from __future__ import annotations

import pytest

from atoll.admin.transfer.imap_client import Client, ImapError
from atoll.admin.transfer.responses import BadServer
from tests.admin.test_transfer_imap import Script


@pytest.mark.parametrize(("security", "steps"), [
    pytest.param("none", (b"* PREAUTH [CAPABILITY IMAP4rev1] welcome\r\n",), id="preauth in the clear"),
    pytest.param("starttls", (b"* PREAUTH [CAPABILITY IMAP4rev1 STARTTLS] welcome\r\n",), id="preauth before STARTTLS"),
    pytest.param("starttls", (b"* OK [CAPABILITY IMAP4rev1 STARTTLS] x\r\n", 1,
                              b"A1 OK go\r\n* CAPABILITY AUTH=PLAIN\r\n"), id="capability behind STARTTLS"),
    pytest.param("starttls", (b"* OK [CAPABILITY IMAP4rev1] x\r\n",), id="STARTTLS taken out"),
])
def test_I011_nothing_is_believed_before_tls(security: str, steps: tuple[bytes | int, ...]) -> None:
    script = Script(*steps)
    with pytest.raises((ImapError, BadServer)):
        Client.connect(script.server(security))
    assert not any(word in line for line in script.heard for word in (b"LOGIN", b"AUTHENTICATE"))
