"""Stand-in until the store lands."""

from __future__ import annotations

from atoll.mailbox import Flag, Folder, Right, Row, WellKnown


class FakeAccess:
    def __init__(self):
        self.rows_ = {}
        self.next = 1
        self.blobs = {}

    def folder(self, path):
        return Folder(
            1,
            1,
            "INBOX",
            WellKnown.INBOX,
            77,
            self.next,
            1,
            1,
            len(self.rows_),
            0,
            0,
            0,
            False,
            False,
            True,
            False,
            Right.all(),
            "F1",
        )

    def rows(self, folder, lo, hi, want, limit=200):
        out = []
        for uid in sorted(self.rows_):
            if lo <= uid <= hi and len(out) < limit:
                flags, body = self.rows_[uid]
                row = [uid, flags, None, 1, uid, 1, 0, len(body), uid]
                if want & 2:
                    row += [b"", b"", "", None if len(body) > 500_000 else body]
                out.append(Row(row))
        return out

    def blob_slice(self, blob, offset, size):
        return self.rows_[blob][1][offset : offset + size]

    async def flags(self, folder, uids, op, flags, keywords=frozenset(), unchanged_since=None):
        for uid in uids:
            if uid in self.rows_:
                self.rows_[uid] = (self.rows_[uid][0] | flags, self.rows_[uid][1])

    async def expunge(self, folder, uids):
        for uid in list(self.rows_):
            if uid in uids and self.rows_[uid][0] & Flag.DELETED:
                del self.rows_[uid]


class FakeStore:
    def __init__(self):
        self.boxes = {}

    async def open(self, mailbox, who, *, scope="full"):
        return self.boxes.setdefault(mailbox, FakeAccess())


class Mailboxes:
    def __init__(self, folder):
        self.store = FakeStore()

    async def start(self):
        pass

    async def close(self):
        pass

    async def put(self, mailbox, user, messages):
        access = await self.store.open(mailbox, user)
        uids = []
        for message in messages:
            access.rows_[access.next] = (Flag(0), message)
            uids.append(access.next)
            access.next += 1
        return uids

    async def inbox(self, mailbox, user):
        access = await self.store.open(mailbox, user)
        return [(uid, int(flags)) for uid, (flags, _) in sorted(access.rows_.items())]

    async def expunge(self, mailbox, user, uids):
        access = await self.store.open(mailbox, user)
        for uid in uids:
            del access.rows_[uid]
