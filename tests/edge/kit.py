"""A DNS in memory, keys of the RFCs' examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from atoll.runtime.egress import Away

BRISBANE_RSA = ("v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2"
                "jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kry"
                "OTIKT+l/K4w3QIDAQAB")
BRISBANE_ED = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


class Zones:
    """Names in memory. zone: name -> rows {TYPE: value}, or "TIMEOUT". asked: every question."""

    def __init__(self, zone: Mapping[str, Sequence[Any]] | None = None) -> None:
        self.zone = {name.lower(): list(rows) for name, rows in (zone or {}).items()}
        self.asked: list[tuple[str, str]] = []

    def _rows(self, name: str, kind: str) -> list[Any]:
        self.asked.append((name, kind))
        rows = self.zone.get(name.lower().removesuffix("."), [])
        found = []
        for row in rows:
            if row == "TIMEOUT":  # of other types than those before it
                if found:
                    break
                raise Away("The name servers do not answer")
            found += [value for key, value in row.items() if key == kind and value != "NONE"]
            if kind in row and row[kind] == "TIMEOUT":
                raise Away("The name servers do not answer")
        cname = [row["CNAME"] for row in rows if isinstance(row, dict) and "CNAME" in row]
        return self._rows(cname[0], kind) if cname and len(self.asked) < 100 else found

    def forget(self, name: str, kind: str) -> None:
        """Nothing is remembered here."""

    async def text(self, name: str) -> list[bytes]:
        rows = self._rows(name, "TXT")
        return [("".join(one) if isinstance(one, list) else str(one)).encode("utf-8") for one in rows]

    async def addresses(self, name: str, kind: str) -> list[str]:
        return [str(one) for one in self._rows(name, kind)]

    async def hosts(self, name: str, kind: str) -> list[str]:
        return [str(one[1] if isinstance(one, list) else one).rstrip(".") for one in self._rows(name, kind)]
