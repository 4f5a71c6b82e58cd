"""The Date field.

In     an unfolded value.
Out    milliseconds since 1970 UTC, or None.
Spec   RFC 5322 §3.3, §4.3 (obsolete forms: two-digit years, zone names, no seconds).
Fails  never: what is no date, or a year before 1900 or after 9999, is None (the received date stands in).
Not    ISO 8601 dates in mail: they are not dates there.
"""

from __future__ import annotations

import re
from datetime import date

from .addresses import without_comments

_DATE = re.compile(
    rb"[ \t]*(?:[A-Za-z]{2,9}[.,]?[ \t]*,?[ \t]*)?"
    rb"(\d{1,2})[ \t-]+([A-Za-z]{3})[A-Za-z]{0,6}[.,]?[ \t-]+(\d{2,4})[ \t,]+"
    rb"(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.\d{1,9})?)?[ \t]*"
    rb"([AaPp][Mm](?![A-Za-z]))?[ \t]*([+-]\d{1,4}(?!\d)|[A-Za-z]{1,5})?(?!\d)"
).match
_ASCTIME = re.compile(
    rb"[ \t]*[A-Za-z]{3}[ \t]+([A-Za-z]{3})[ \t]+(\d{1,2})[ \t]+(\d{1,2}):(\d{2})(?::(\d{2}))?[ \t]+(\d{4})(?!\d)"
).match
_MONTHS = {name: at for at, name in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
_ZONES = {
    b"EDT": -240,
    b"EST": -300,
    b"CDT": -300,
    b"CST": -360,
    b"MDT": -360,
    b"MST": -420,
    b"PDT": -420,
    b"PST": -480,
}
_EPOCH = date(1970, 1, 1).toordinal()


def parse_date(value: bytes) -> int | None:
    """Milliseconds since 1970 UTC of a Date value, None when it is none."""
    value = value[:200]
    match = _DATE(value) or (_DATE(without_comments(value)) if b"(" in value else None)
    if match is not None:
        day, month, year, hour, minute, second, half, zone = match.groups()
    else:
        match = _ASCTIME(value)
        if match is None:
            return None
        month, day, hour, minute, second, year = match.groups()
        half = zone = None
    year_n = int(year)
    if len(year) == 2:  # [RFC 5322 §4.3]
        year_n += 2000 if year_n < 50 else 1900
    elif len(year) == 3:
        year_n += 1900
    hour_n = int(hour)
    if half is not None:
        hour_n = hour_n % 12 + (12 if half in (b"PM", b"pm", b"Pm", b"pM") else 0)
    seconds = int(second or 0)
    if not 1900 <= year_n <= 9999 or hour_n > 23 or int(minute) > 59 or seconds > 60:
        return None
    try:
        days = date(year_n, _MONTHS[month.lower()], int(day)).toordinal() - _EPOCH
    except (KeyError, ValueError):
        return None
    return (days * 86_400 + hour_n * 3600 + (int(minute) - _offset(zone)) * 60 + seconds) * 1000


def _offset(zone: bytes | None) -> int:
    """Minutes east of UTC; unknown zones count as UTC ([RFC 5322 §4.3], "-0000")."""
    if not zone:
        return 0
    if zone[:1] in (b"+", b"-"):
        digits = zone[1:].rjust(4, b"0")
        minutes = int(digits[:2]) * 60 + int(digits[2:])
        if int(digits[:2]) > 24 or int(digits[2:]) > 59:
            return 0
        return -minutes if zone[:1] == b"-" else minutes
    return _ZONES.get(zone.upper(), 0)
