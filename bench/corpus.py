"""corpus(7): the messages of every measurement; message number i is always the same bytes.

Out:   CRLF lines; 2 to 30 KB (45 % multipart/alternative, 25 % with a base64 attachment, 30 % plain; a third are
       replies with References; 1 % hold the word "xyzzyrare") or plain text of a given size.
Not:   what breaks parsers: that is in tests/attacks.
"""

from __future__ import annotations

import base64
import random
import time

_POOL: tuple[list[str], bytes, bytes] | None = None
FIRST = "Anna Ben Carla Dmitri Elena Farid Grace Hiro Ines Jonas Kat Liam Maya Nils Olga Pavel Rosa Sven Tara Umar"
LAST = (
    "Abel Berger Costa Dahl Engel Fischer Garcia Huang Ivanov Jansen Keller Lopez Meyer Novak Olsen Petit Rossi Silva"
)
ONSETS = "b c d f g h j k l m n p r s t v w z st tr pl"
RIMES = "a e i o u an er is"
_FIRST, _LAST = FIRST.split(), LAST.split()


def _pool(seed: int = 7) -> tuple[list[str], bytes, bytes]:
    global _POOL
    if _POOL is None:
        rnd = random.Random(seed)
        sylls = [a + b for a in ONSETS.split() for b in RIMES.split()]
        vocab = ["".join(rnd.choices(sylls, k=rnd.choice((1, 2, 2, 3)))) for _ in range(6000)]
        lines, line = [], []
        for word in rnd.choices(vocab, weights=[1 / (i + 5) for i in range(len(vocab))], k=200_000):
            line.append(word)
            if len(line) == 11:
                lines.append(" ".join(line))
                line = []
        text = "\r\n".join(lines).encode()
        b64 = base64.encodebytes(rnd.randbytes(300_000)).replace(b"\n", b"\r\n")
        _POOL = (lines, text, b64)
    return _POOL


def _cut(pool: bytes, rnd: random.Random, n: int) -> bytes:
    start = pool.index(b"\r\n", rnd.randrange(0, len(pool) - n - 200)) + 2
    end = pool.index(b"\r\n", start + n - 2) + 2 if n > 2 else start
    return pool[start:end]


def message(i: int, size: int | None = None, kind: int | None = None, rare: bytes = b"xyzzyrare") -> bytes:
    """Message number i of a realistic mix (same i, same bytes). size: about so many bytes, plain text, CRLF, dot-free.

    Without size: 2-30 KB, 45 % multipart/alternative, 25 % multipart/mixed with a base64 attachment, 30 % text/plain;
    a third are replies with References; 1 % contain the word `rare` in the body.
    """
    rnd = random.Random(i)
    lines, text, b64 = _pool()
    who = rnd.randrange(360)
    first, last = _FIRST[who % 20], _LAST[who // 20]
    when = 1_700_000_000 + (i * 9973) % 60_000_000
    date = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(when))
    reply = i % 3 == 2
    thread = i - i % 9 if reply else i
    subject = lines[(thread * 31) % len(lines)][: rnd.randrange(20, 60)]
    mid = f"<{i}.{when}@mail.{last.lower()}.example>"
    head = [
        f"Return-Path: <{first.lower()}@{last.lower()}.example>",
        f"Received: from mx{i % 7}.example ([192.0.2.{i % 250}]) by mta.peer.test (island) with ESMTPS id {i:08x}",
        f"\tfor <u{i % 100}@peer.test>; {date}",
        f"Received: from smtp.{last.lower()}.example (localhost [127.0.0.1]) by mx{i % 7}.example with ESMTP; {date}",
        f"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d={last.lower()}.example; s=k1;",
        "\th=from:to:subject:date;",
        "\tbh=" + base64.b64encode(rnd.randbytes(32)).decode() + ";",
        "\tb=" + base64.b64encode(rnd.randbytes(48)).decode(),
        "\t " + base64.b64encode(rnd.randbytes(48)).decode(),
        f"From: {first} {last} <{first.lower()}@{last.lower()}.example>",
        f"To: User {i % 100} <u{i % 100}@peer.test>",
        f"Subject: {'Re: ' if reply else ''}{subject}",
        f"Date: {date}",
        f"Message-ID: {mid}",
    ]
    if i % 4 == 1:
        other = (who + 7) % 360
        head.append(
            f"Cc: {_FIRST[other % 20]} {_LAST[other // 20]} <cc{other}@copy.example>, list{i % 13}@lists.example"
        )
    if reply:
        refs = [f"<{k}.x@thread.example>" for k in range(thread, i, 3)] + [f"<{thread}.root@thread.example>"]
        head += [f"In-Reply-To: {refs[-1]}", "References: " + "\r\n\t".join(refs)]
    head.append("MIME-Version: 1.0")
    if size:
        head += ["Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 7bit", ""]
        data = ("\r\n".join(head) + "\r\n").encode()
        body = text if size < 1_000_000 else text * (size // len(text) + 1)
        need = max(0, size - len(data))
        start = body.index(b"\r\n", rnd.randrange(0, max(1, len(body) - need - 400))) + 2
        return data + body[start : start + need].rstrip(b"\r\n") + b"\r\n"
    target = min(30_000, max(2_000, int(rnd.lognormvariate(8.7, 0.75))))
    roll = i % 20 if kind is None else kind
    extra = rare + b" here\r\n" if i % 100 == 0 else b""
    if roll < 6:
        head += ["Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 7bit", ""]
        return ("\r\n".join(head) + "\r\n").encode() + _cut(text, rnd, max(400, target - 1500)) + extra
    bound = f"=_b{i:x}_{rnd.randrange(1 << 40):x}"
    plain = _cut(text, rnd, min(6000, target // 4)) + extra
    html = (
        b"<html><body><p>"
        + _cut(text, rnd, min(12000, target // 3)).replace(b"\r\n", b"<br>\r\n")
        + b"</p></body></html>\r\n"
    )
    alt = (
        f"--{bound}a\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\n".encode()
        + plain
        + f"--{bound}a\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\n".encode()
        + html
        + f"--{bound}a--\r\n".encode()
    )
    if roll < 15:
        head += [f'Content-Type: multipart/alternative; boundary="{bound}a"', ""]
        return ("\r\n".join(head) + "\r\n").encode() + alt
    head += [f'Content-Type: multipart/mixed; boundary="{bound}"', ""]
    attach = _cut(b64, rnd, max(600, target - len(alt)))
    return (
        ("\r\n".join(head) + "\r\n").encode()
        + f'--{bound}\r\nContent-Type: multipart/alternative; boundary="{bound}a"\r\n\r\n'.encode()
        + alt
        + f'--{bound}\r\nContent-Type: application/pdf; name="doc{i}.pdf"\r\nContent-Transfer-Encoding: base64\r\n'
        f'Content-Disposition: attachment; filename="doc{i}.pdf"\r\n\r\n'.encode()
        + attach
        + f"--{bound}--\r\n".encode()
    )
