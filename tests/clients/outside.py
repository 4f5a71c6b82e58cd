"""outside(7): somebody else's mail server: Debian's Postfix as outside.example, with mailboxes.

In:    the packages of `make test-deps`, an island that sends to it.
Out:   `Outside`: what has arrived there.
"""

from __future__ import annotations

import email
import email.policy
import time
from email.message import EmailMessage
from pathlib import Path
from typing import cast

from atoll.runtime.certificates import make
from tests.clients.mailsite import Site
from tests.clients.postfix import USERS, Postfix

DOMAIN = "outside.example"
SETTINGS = f"""
myhostname = mail.{DOMAIN}
virtual_mailbox_domains = {DOMAIN}
virtual_mailbox_base = /mnt/mail
virtual_mailbox_maps = static:all/
virtual_uid_maps = static:{USERS["postfix"]}
virtual_gid_maps = static:{USERS["postfix"]}
virtual_minimum_uid = 100
smtpd_tls_security_level = may
smtpd_tls_chain_files = /mnt/chain.pem
smtpd_tls_received_header = yes
smtpd_recipient_restrictions = check_recipient_access inline:{{nobody@{DOMAIN}=REJECT}}, permit_mynetworks, reject
message_size_limit = 1000000
"""
SERVICES = "virtual unix - n n - - virtual\n"


class Outside(Postfix):
    """`with Outside(site, folder, port) as outside`: everybody @outside.example has mail there, except nobody@."""

    def __init__(self, site: Site, folder: Path, port: int, *, settings: str = "") -> None:
        super().__init__(site, folder, settings=SETTINGS + settings, services=SERVICES, port=port)

    def _lay_out(self) -> None:
        super()._lay_out()
        (self.folder / "tls").mkdir(exist_ok=True)
        make(self.folder / "tls", [f"mail.{DOMAIN}"])
        (self.folder / "chain.pem").write_bytes((self.folder / "tls/key.pem").read_bytes()
                                                + (self.folder / "tls/cert.pem").read_bytes())
        (self.folder / "mail").mkdir(mode=0o777, exist_ok=True)
        (self.folder / "mail").chmod(0o777)

    def arrived_now(self) -> list[EmailMessage]:
        """What is there, oldest first."""
        paths = sorted((self.folder / "mail").glob("all/new/*"), key=lambda path: path.stat().st_mtime_ns)
        return [cast(EmailMessage, email.message_from_bytes(path.read_bytes(), policy=email.policy.default))
                for path in paths]

    def arrived(self, count: int, seconds: float = 20) -> list[EmailMessage]:
        """So many messages, once they are there."""
        deadline = time.monotonic() + seconds
        while len(found := self.arrived_now()) < count:
            assert time.monotonic() < deadline, (len(found), self.log()[-2000:])
            time.sleep(0.05)
        assert len(found) == count
        return found

    def octets(self) -> list[bytes]:
        """What has arrived so far, oldest first, as it lies there: lines end with LF, Return-Path on top."""
        paths = sorted((self.folder / "mail").glob("all/new/*"), key=lambda path: path.stat().st_mtime_ns)
        return [path.read_bytes() for path in paths]
