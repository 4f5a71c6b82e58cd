"""Run a transcript: plain text of what a client says and must hear.

#            a comment; "# carol", "# clear", "# raw" on the first line choose who signs in, or that nobody does
C: text      said by the first client, with CRLF ("C2:" by a second one of the same person, "Cb:" by bob)
S: pattern   the next line heard, as a regular expression for the whole line
S> pattern   lines are skipped until one matches
"""

from __future__ import annotations

import re

from tests.protocols.imap.conftest import Client, Site

WHO = {"": b"alice", "2": b"alice", "3": b"alice", "b": b"bob", "c": b"carol"}
_LINE = re.compile(r"([CS])([23bc]?)([:>])(?: (.*))?\Z")


async def run(site: Site, name: str, text: str) -> None:
    """Raises AssertionError with the line number."""
    lines = text.splitlines()
    mode = lines[0].removeprefix("#").split()[:1] if lines[0].startswith("#") else []
    clients: dict[str, Client] = {}
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        found = _LINE.match(line)
        assert found is not None, f"{name}:{number}: not a transcript line: {line}"
        kind, who, sign, text = found.groups(default="")
        if who not in clients:
            clients[who] = await _open(site, mode, who)
        client = clients[who]
        if kind == "C":
            client.send(text.encode("utf-8") + b"\r\n")
            continue
        await _hear(client, text, f"{name}:{number}", skip=sign == ">")


async def _open(site: Site, mode: list[str], who: str) -> Client:
    if mode in (["raw"], ["clear"]):
        return await site.connect(tls=mode == ["raw"])
    return await site.sign_in(WHO[who])


async def _hear(client: Client, text: str, where: str, *, skip: bool) -> None:
    pattern = re.compile(text)
    heard = []
    while True:
        got = (await client.line()).decode("utf-8", "backslashreplace")
        heard.append(got)
        if got.endswith("\r\n") and pattern.fullmatch(got[:-2]):
            return
        assert skip, f"{where}: expected {text!r}, heard {heard!r}"
        assert got, f"{where}: expected {text!r}, heard {heard!r}"
