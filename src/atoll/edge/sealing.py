"""edge.sealing -- a DKIM signature of ours, a link of ours in a chain of ARC.

In     a Message, a private key, domain and selector.
Out    fields, to be put before the message.
Spec   [RFC 6376 §5], [RFC 8463], [RFC 8617 §5.1]; relaxed/relaxed. Fields that matter to readers
       are signed once more than they are there (oversigned): nobody can add a second Subject behind our back
       [RFC 6376 §8.15].
Not    whose key (signer.py).
"""

from __future__ import annotations

import base64
from textwrap import wrap

from atoll.edge import arc, canon
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
    return _signature("DKIM-Signature: v=1", signed_names(message), message, body_hash, key, domain, selector, now)


def _signature(begin: str, names: list[str], message: Message, body_hash: bytes, key: keys.PrivateKey, domain: str,
               selector: str, now: int) -> bytes:
    lines = wrap(" ".join(names), LINE, break_long_words=False, break_on_hyphens=False)
    listed = ":\r\n\t ".join(line.replace(" ", ":") for line in lines)
    head = (f"{begin}; a={keys.kind_of(key)}-sha256; c=relaxed/relaxed; d={domain}; s={selector};\r\n"
            f"\tt={now}; h={listed};\r\n"
            f"\tbh={base64.b64encode(body_hash).decode('ascii')};\r\n"
            f"\tb=").encode("ascii")
    return _signed(head, b"".join(canon.chosen(message, names, relaxed=True)), key)


def _signed(head: bytes, before: bytes, key: keys.PrivateKey) -> bytes:
    """A field that ends with its own signature. before: what is signed with it."""
    data = before + canon.without_signature(Field(b"", head + b"\r\n"), relaxed=True)
    signature = base64.b64encode(keys.sign(key, data)).decode("ascii")
    return head + "\r\n\t ".join(wrap(signature, LINE)).encode("ascii") + b"\r\n"


def link(message: Message, body_hash: bytes, key: keys.PrivateKey, found: bytes, *, domain: str, selector: str,
         now: int) -> bytes:
    """One more link of the message's chain, which is whole: the three fields of an ARC set [RFC 8617 §5.1].

    found: our Authentication-Results, without the field's name. dkim.Fault: the chain is not whole.
    """
    sets = arc.sets_of(message.fields)
    number = len(sets) + 1
    seen = b"ARC-Authentication-Results: i=%d; %s\r\n" % (number, found.strip())
    names = signed_names(message) + ["dkim-signature"] * len(message.named(b"dkim-signature"))
    signature = _signature(f"ARC-Message-Signature: i={number}", names, message, body_hash, key, domain, selector, now)
    head = (f"ARC-Seal: i={number}; a={keys.kind_of(key)}-sha256; cv={'pass' if sets else 'none'}; d={domain};\r\n"
            f"\ts={selector}; t={now};\r\n\tb=").encode("ascii")
    before = [one for each in sets for one in each.fields] + [Field(arc.RESULTS, seen), Field(arc.SIGNATURE, signature)]
    return _signed(head, b"".join([canon.field(one, relaxed=True) for one in before]), key) + signature + seen
