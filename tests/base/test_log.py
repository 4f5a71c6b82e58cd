"""Log lines: what is long is cut where it says least."""

from __future__ import annotations

import json
import logging
import sys

from atoll.base.log import MAX_VALUE, JsonFormatter


def test_a_long_trace_keeps_what_was_raised() -> None:
    def deep(left: int) -> None:
        if left:
            (lambda: deep(left - 1))()
        raise ValueError("the reason")

    try:
        deep(100)
    except ValueError:
        record = logging.LogRecord("atoll", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())
    trace = json.loads(JsonFormatter("mailbox-1").format(record))["trace"]
    assert trace.endswith("ValueError: the reason")
    assert len(trace) <= MAX_VALUE + 1
