"""Structured logs: one JSON object a line (or readable text), control characters escaped, values cut at 2 KiB.

Never logged: passwords, tokens, message text (Trust 8). Call sites pass fields, never formatted secrets:
    log.info("signed in", extra={"f": {"user": user_text, "protocol": "imap"}})
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

MAX_VALUE = 2048


def _cut(value: Any) -> Any:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        return value if len(value) <= MAX_VALUE else value[:MAX_VALUE] + "…"
    if isinstance(value, int | float | bool) or value is None:
        return value
    return _cut(repr(value))


class JsonFormatter(logging.Formatter):
    """One JSON line a record."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line: dict[str, Any] = {"time": stamp, "level": record.levelname.lower(), "role": self._role,
                                "logger": record.name, "event": _cut(record.getMessage())}
        fields = getattr(record, "f", None)
        if fields:
            line.update({key: _cut(value) for key, value in fields.items() if key not in line})
        if record.exc_info:
            trace = self.formatException(record.exc_info)  # what was raised, and where, stands at its end
            line["trace"] = trace if len(trace) <= MAX_VALUE else "…" + trace[-MAX_VALUE:]
        return json.dumps(line, ensure_ascii=True)


class TextFormatter(JsonFormatter):
    """The same facts for a person's terminal."""

    def format(self, record: logging.LogRecord) -> str:
        facts = json.loads(super().format(record))
        head = f"{facts.pop('time')} {facts.pop('level'):7} {facts.pop('role')}: {facts.pop('event')}"
        facts.pop("logger")
        trace = facts.pop("trace", "")
        tail = " ".join(f"{key}={json.dumps(value)}" for key, value in facts.items())
        return " ".join(filter(None, (head, tail))) + (f"\n{trace}" if trace else "")


def setup(role: str, *, level: str = "info", text: bool = False) -> None:
    """Send this process's log records to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter(role) if text else JsonFormatter(role))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
