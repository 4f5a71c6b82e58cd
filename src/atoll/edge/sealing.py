"""edge.sealing -- a DKIM signature of ours.

In     a Message, a private key, domain and selector.
Out    the field, to be put before the message.
Spec   [RFC 6376 §5], [RFC 8463]; relaxed/relaxed. Fields that matter to readers are signed once more than they are
       there (oversigned): nobody can add a second Subject behind our back [RFC 6376 §8.15].
Not    whose key (signer.py).
"""

from __future__ import annotations

import base64
from textwrap import wrap

from atoll.edge import canon
from atoll.edge.message import Field, Message
from atoll.formats.dkim import keys

OVERSIGNED = ("from", "to", "cc", "subject", "date", "reply-to", "message-id", "in-reply-to", "references",
              "mime-version", "content-type", "content-transfer-encoding")
IF_THERE = ("sender", "content-disposition", "content-language", "auto-submitted", "list-id", "list-unsubscribe",
            "list-unsubscribe-post")
LINE = 72


def signed_names(message: Message) -> list[str]:
    """h= of a message."""
    counts: dict[str, int] = {}
    for field in message.fields:
        name = field.name.decode("ascii", "replace")
        counts[name] = counts.get(name, 0) + 1
    return [name for names, more in ((OVERSIGNED, 1), (IF_THERE, 0)) for name in names
            for _ in range(counts.get(name, 0) + more)]


def seal(message: Message, body_hash: bytes, key: keys.PrivateKey, *, domain: str, selector: str, now: int) -> bytes:
    """DKIM-Signature with its line end. body_hash: of the relaxed body; now: seconds since 1970."""
    algorithm = f"{keys.kind_of(key)}-sha256"
    names = signed_names(message)
    lines = wrap(" ".join(names), LINE, break_long_words=False, break_on_hyphens=False)
    listed = ":\r\n\t ".join(line.replace(" ", ":") for line in lines)
    head = (f"DKIM-Signature: v=1; a={algorithm}; c=relaxed/relaxed; d={domain}; s={selector};\r\n"
            f"\tt={now}; h={listed};\r\n"
            f"\tbh={base64.b64encode(body_hash).decode('ascii')};\r\n"
            f"\tb=").encode("ascii")
    data = b"".join(canon.chosen(message, names, relaxed=True))
    data += canon.without_signature(Field(b"dkim-signature", head + b"\r\n"), relaxed=True)
    signature = base64.b64encode(keys.sign(key, data)).decode("ascii")
    return head + "\r\n\t ".join(wrap(signature, LINE)).encode("ascii") + b"\r\n"
