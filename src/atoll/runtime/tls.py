"""The server's TLS context of now: made from PEM texts, swapped at a reload.

In     ctx.tls: the certificate chain and the key, which the supervisor reads and passes on (PROCESSES 10: a frontend
       under its own uid can open neither).
Out    an SSLContext for new connections; those that are open keep theirs.
Spec   [RFC 9325 §3.1.1] TLS 1.2 and 1.3 only; one session ticket, keys per start (PROCESSES 5).
Fails  at the start: BadCertificate. At a reload: the pair before stays in use, and health says so.
Not    which certificate: there is one.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atoll.base.config import Config
    from atoll.runtime.role import RoleContext

_log = logging.getLogger("atoll.tls")


class BadCertificate(Exception):
    """The pair cannot be used; str() says why, without a byte of it."""


def read_pair(folder: Path) -> dict[str, str]:
    """The certificate chain and the key of DATA/tls, which fit together."""
    try:
        pair = {"cert": (folder / "cert.pem").read_text("ascii"), "key": (folder / "key.pem").read_text("ascii")}
    except (OSError, ValueError) as error:
        raise BadCertificate(f"{folder}: {getattr(error, 'strerror', None) or 'not PEM'}") from None
    server_context(pair)
    return pair


def server_context(pair: Mapping[str, str]) -> ssl.SSLContext:
    """A context for servers from "cert" (chain) and "key" in PEM."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.num_tickets = 1
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # The ssl module loads from paths only: a file in memory has one, and the text never reaches a disk.
    fd = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(fd, f"{pair['key']}\n{pair['cert']}\n".encode("ascii", "replace"))
        context.load_cert_chain(f"/proc/self/fd/{fd}", password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or type(error).__name__
        raise BadCertificate(f"certificate or key cannot be used: {reason}") from None
    finally:
        os.close(fd)
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")


class ServerTls:
    """now() for Listener(tls=...) and STARTTLS."""

    def __init__(self, ctx: RoleContext) -> None:
        self._ctx = ctx
        self._context = server_context(ctx.tls or {"cert": "", "key": ""})
        ctx.on_reload(self._reload)

    def now(self) -> ssl.SSLContext:
        """The context of the newest good pair."""
        return self._context

    def _reload(self, config: Config) -> None:
        try:
            self._context = server_context(self._ctx.tls or {"cert": "", "key": ""})
        except BadCertificate as error:
            _log.error("certificate not changed", extra={"f": {"reason": str(error)}})
            self._ctx.health("certificate", "warn", f"the one before stays in use: {error}")
        else:
            self._ctx.health("certificate", "ok")
