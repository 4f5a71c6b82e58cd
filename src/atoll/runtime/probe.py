"""Ask a port of ours whether the service behind it answers.

In     a service name and its port. Out  None when it greeted as its protocol says, else what went wrong.
Spec   [RFC 5321 §4.3.1] 220, [RFC 9051 §7.1] OK, [RFC 1939 §3] +OK, [RFC 9112 §4] HTTP/1.1. The health port's
       status says how others are, this probe among them: any status is an answer.
Not    a check of the certificate: the operator's may be for any name; the client's trust is not ours to judge.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl

SECONDS = 5.0
GREETING = {"smtp": b"220 ", "submission": b"220 ", "submissions": b"220 ", "imap": b"* OK", "imaps": b"* OK",
            "pop3": b"+OK", "pop3s": b"+OK", "health": b"HTTP/1.1 "}
TLS = frozenset({"submissions", "imaps", "pop3s"})
GOODBYE = {"smtp": b"QUIT\r\n", "submission": b"QUIT\r\n", "submissions": b"QUIT\r\n", "imap": b"a LOGOUT\r\n",
           "imaps": b"a LOGOUT\r\n", "pop3": b"QUIT\r\n", "pop3s": b"QUIT\r\n"}
ASK = {"health": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"}


async def probe(service: str, address: str, port: int) -> str | None:
    """Why the service does not answer, or None."""
    context = None
    if service in TLS:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection(_reachable(address), port, ssl=context, limit=4096)
            try:
                writer.write(ASK.get(service, b""))
                line = await reader.readline()
                writer.write(GOODBYE.get(service, b""))
                await writer.drain()
            finally:
                writer.close()
                with contextlib.suppress(OSError, ssl.SSLError):
                    await writer.wait_closed()
    except TimeoutError:
        return "no greeting in time"
    except (OSError, ssl.SSLError, ValueError) as error:
        return str(error) or type(error).__name__
    return None if line.startswith(GREETING[service]) else "unexpected greeting"


def _reachable(address: str) -> str:
    return {"::": "::1", "0.0.0.0": "127.0.0.1"}.get(address, address)  # noqa: S104
