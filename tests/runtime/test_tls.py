"""Certificates: made once, loaded from memory, swapped at a reload, a bad one changes nothing."""

from __future__ import annotations

import os
import ssl
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from atoll.base.config import Config
from atoll.runtime.certificates import make
from atoll.runtime.tls import BadCertificate, ServerTls, server_context


def pair(folder: Path) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    make(folder, ["localhost", "127.0.0.1", "::1", "mail.example.test"])
    return {"cert": (folder / "cert.pem").read_text(), "key": (folder / "key.pem").read_text()}


def shake(server: ssl.SSLContext, ca: Path, name: str) -> ssl.SSLObject:
    """A whole handshake in memory."""
    client_in, client_out, server_in, server_out = (ssl.MemoryBIO() for _ in range(4))
    client = ssl.create_default_context(cafile=str(ca)).wrap_bio(client_in, client_out, server_hostname=name)
    served = server.wrap_bio(server_in, server_out, server_side=True)
    for _ in range(6):
        for end, out, other in ((client, client_out, server_in), (served, server_out, client_in)):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
            other.write(out.read())
    return client


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "mail.example.test"])
def test_a_client_that_trusts_the_authority_is_content(tmp_path: Path, name: str) -> None:
    client = shake(server_context(pair(tmp_path)), tmp_path / "ca.pem", name)
    assert client.version() == "TLSv1.3"


def test_another_name_is_not_ours(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(server_context(pair(tmp_path)), tmp_path / "ca.pem", "other.example.test")


def test_old_tls_is_refused(tmp_path: Path) -> None:
    assert server_context(pair(tmp_path)).minimum_version == ssl.TLSVersion.TLSv1_2


def test_the_key_is_ours_alone_and_the_authority_has_none(tmp_path: Path) -> None:
    os.umask(os.umask(0))
    pair(tmp_path)
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca.pem", "cert.pem", "key.pem"]
    assert "PRIVATE" not in (tmp_path / "ca.pem").read_text()


def test_a_certificate_that_is_there_is_kept(tmp_path: Path) -> None:
    before = pair(tmp_path)
    subprocess.run([sys.executable, "-m", "atoll.runtime.certificates", str(tmp_path), "localhost"], check=True)
    assert pair(tmp_path) == before


@pytest.mark.parametrize("change", [
    {"cert": ""}, {"key": ""}, {"cert": "garbage", "key": "garbage"},
    {"key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}])
def test_a_bad_pair_is_refused_without_a_word_of_it(tmp_path: Path, change: dict[str, str]) -> None:
    with pytest.raises(BadCertificate) as error:
        server_context({**pair(tmp_path), **change})
    assert "AAAA" not in str(error.value)
    assert "BEGIN" not in str(error.value)


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    ours, other = pair(tmp_path / "a"), pair(tmp_path / "b")
    with pytest.raises(BadCertificate):
        server_context({"cert": ours["cert"], "key": other["key"]})


class Ctx:
    """What ServerTls wants of a role."""

    def __init__(self, tls: dict[str, str]) -> None:
        self.tls = tls
        self.said: list[tuple[str, ...]] = []

    def on_reload(self, callback: Any) -> None:
        self.reload = callback

    def health(self, *words: str) -> None:
        self.said.append(words)


def test_reload_swaps_a_good_pair_and_keeps_it_before_a_bad_one(tmp_path: Path) -> None:
    first, second = pair(tmp_path / "a"), pair(tmp_path / "b")
    ctx = Ctx(first)
    served = ServerTls(ctx)  # type: ignore[arg-type]
    ctx.tls = second
    ctx.reload(Config())
    good = served.now()
    shake(good, tmp_path / "b" / "ca.pem", "localhost")
    ctx.tls = {"cert": second["cert"], "key": first["key"]}
    ctx.reload(Config())
    assert served.now() is good
    assert ctx.said[-1][:2] == ("certificate", "warn")
