"""Header fields for FETCH: the quick way finds what the plain way finds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from atoll.formats.mime import header_end, header_fields
from atoll.protocols.imap.bodies import fields_of
from atoll.protocols.imap.types import Section

PIECES = st.sampled_from(
    [
        b"Subject: a\r\n",
        b"SUBJECT : b\r\n",
        b" folded\r\n",
        b"\tmore\r\n",
        b"From: x\n",
        b"To:\r\n",
        b"Subjectx: y\r\n",
        b"no colon\r\n",
        b"X-Subject: z\r\n",
        b"\r\n",
        b": empty\r\n",
        b"Subject: c\rd\r\n",
        b"subject:",
        b" \r\n",
    ]
)
FIELDS = st.lists(st.sampled_from([b"Subject", b"from", b"To", b"X.Y", b"no"]), min_size=1, max_size=3).map(tuple)


@given(st.lists(PIECES, max_size=12).map(b"".join), FIELDS, st.booleans())
def test_fields(message: bytes, names: tuple[bytes, ...], without: bool) -> None:
    header = message[: header_end(message)]
    section = Section((), "HEADER.FIELDS.NOT" if without else "HEADER.FIELDS", names)
    assert fields_of(header, section) == header_fields(header, names, without=without)
