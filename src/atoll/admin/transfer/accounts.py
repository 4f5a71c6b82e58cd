"""admin.transfer.accounts -- which account of which server goes into which mailbox. Pure.

In     an imap:// URL, a CSV of people.
Out    Server, Account.
Spec   RFC 5092 as far as a command line needs it: no password in a URL, where every process could read it.
Fails  ValueError with a text for the operator.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TextIO
from urllib.parse import unquote, urlsplit

from atoll.admin.transfer.imap_client import Server

MAX_ROWS = 1_000_000


@dataclass(frozen=True, slots=True)
class Account:
    """user at the old server goes into the mailbox `to`."""

    user: str
    to: str
    password: bytes = field(repr=False, default=b"")


def server_of(url: str, *, insecure: bool = False, verify: bool = True, ca_file: str = "") -> tuple[Server, str]:
    """(server, user) of imap://user@host[:port] (STARTTLS) or imaps://user@host[:port] (TLS)."""
    parts = urlsplit(url)
    if parts.scheme not in ("imap", "imaps") or not parts.hostname:
        raise ValueError("give the old server as imap://user@host or imaps://user@host")
    if parts.password is not None:
        raise ValueError("no password in the URL: every process of this machine could read it (--password-stdin)")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("nothing may follow the host (--folder names single folders)")
    security = "tls" if parts.scheme == "imaps" else "none" if insecure else "starttls"
    port = parts.port or (993 if parts.scheme == "imaps" else 143)
    # A user may be an address: imap://alice@example.org@old.example.org or with %40.
    user = unquote(parts.netloc.rpartition("@")[0])
    return Server(parts.hostname, port, security, verify, ca_file), user


def pop3_of(url: str, like: Server) -> Server:
    """The POP3 of the same mailboxes: pop3://host[:port] (STLS) or pop3s://host[:port] (TLS); trust as for IMAP."""
    parts = urlsplit(url)
    if parts.scheme not in ("pop3", "pop3s") or not parts.hostname or "@" in parts.netloc:
        raise ValueError("give the old server's POP3 as pop3://host or pop3s://host")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("nothing may follow the host of --pop3")
    security = "tls" if parts.scheme == "pop3s" else "none" if like.security == "none" else "starttls"
    port = parts.port or (995 if parts.scheme == "pop3s" else 110)
    return Server(parts.hostname, port, security, like.verify, like.ca_file)


def _rows(file: TextIO) -> Iterator[list[str]]:
    reader = csv.reader(file, skipinitialspace=True)
    try:
        yield from reader
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num + 1}: {error}") from None
    except UnicodeDecodeError:
        raise ValueError("the table is not UTF-8 text") from None


def read_accounts(file: TextIO) -> list[Account]:
    """Rows of user, password, mailbox; a first row with these names is taken for a heading."""
    accounts = []
    for number, row in enumerate(_rows(file), 1):
        cells = [cell.strip() for cell in row[:2]] + row[2:]
        if not any(cells) or (number == 1 and [cell.lower() for cell in cells[:2]] == ["user", "password"]):
            continue
        if len(cells) != 3 or not cells[0] or "@" not in cells[2]:
            raise ValueError(f"line {number}: expected user,password,mailbox")
        accounts.append(Account(cells[0], cells[2].strip(), row[1].encode()))
        if len(accounts) > MAX_ROWS:
            raise ValueError("too many rows")
    if not accounts:
        raise ValueError("the table has no accounts")
    return accounts
