"""The parts of a message: one pass, no recursion over content.

In     a whole message.
Out    a tree of Node with offsets into it; every reader (structure, sections, search text) uses this one tree.
Spec   RFC 2045 §5.2 (defaults), RFC 2046 §5.1 (boundaries; digest), RFC 5322.
Fails  never: unusable multiparts are leaves, what exceeds a limit is opaque.
Not    decoding. Ambiguity is settled here once: the first field of a name counts, the first boundary parameter, the
       innermost of equal boundaries, and a delimiter line must be the boundary alone (white space may follow).
"""

from __future__ import annotations

from .addresses import without_comments
from .fields import header_end, parse_fields
from .limits import DEFAULT, ScanLimits
from .params import Params, param, parse_disposition, parse_type

PART_FIELDS = frozenset(
    b"content-type content-transfer-encoding content-id content-description content-disposition content-language "
    b"content-location content-md5".split()
)
MESSAGE_FIELDS = PART_FIELDS | frozenset(
    b"date subject from sender reply-to to cc bcc in-reply-to message-id references".split()
)

LEAF, MULTIPART, MESSAGE = range(3)
_HEADER_WINDOW = 65_536
_MAX_BOUNDARY = 1_000
_PLAIN_TEXT = (b"text", b"plain", [(b"charset", b"us-ascii")])


class Node:
    """One body part. Offsets: header at `start`, body from `body` to `end`."""

    __slots__ = (
        "body",
        "boundary",
        "children",
        "end",
        "fields",
        "is_root",
        "kind",
        "maintype",
        "params",
        "start",
        "subtype",
    )

    def __init__(self, start: int) -> None:
        self.start = start
        self.body = start
        self.end = start
        self.fields: dict[bytes, bytes] = {}
        self.kind = LEAF
        self.maintype: bytes = b"text"
        self.subtype: bytes = b"plain"
        self.params: Params = []
        self.children: list[Node] = []
        self.boundary: bytes | None = None
        self.is_root = False
        """True for a message (the whole one, or the one inside message/rfc822): its fields are a message header."""

    @property
    def encoding(self) -> bytes:
        """Content-Transfer-Encoding as written but for comments, b"7bit" when there is none."""
        return without_comments(self.fields.get(b"content-transfer-encoding", b"")).strip() or b"7bit"

    @property
    def disposition(self) -> tuple[bytes, Params] | None:
        """Content-Disposition."""
        value = self.fields.get(b"content-disposition")
        return parse_disposition(value) if value else None


def parse_tree(data: bytes, limits: ScanLimits = DEFAULT) -> Node:
    """The root part of a message."""
    return _Builder(data, limits).run()


class _Builder:
    """The path of open parts, from the root to the part the cursor is in."""

    def __init__(self, data: bytes, limits: ScanLimits) -> None:
        self._data = data
        self._limits = limits
        self._path: list[Node] = []
        self._active: dict[bytes, list[int]] = {}  # boundary -> places in the path, innermost last
        self._parts = 0

    def run(self) -> Node:
        data = self._data
        pos = max(self._enter(0, _PLAIN_TEXT, root=True) - 1, 0)
        root = self._path[0]
        budget = self._limits.candidates
        while self._active and budget:
            at = data.find(b"\n--", pos)
            if at < 0:
                break
            budget -= 1
            pos = self._line(at)
        for node in self._path:
            node.end = len(data)
        _settle(root)
        return root

    def _line(self, at: int) -> int:
        """Look at the line after the line end at `at`; returns where to look on."""
        hit = self._delimiter(at)
        if hit is None:
            return at + 3
        level, closing, after = hit
        end = at - 1 if self._data[at - 1 : at] == b"\r" else at
        for node in self._path[level + 1 :]:
            node.end = max(end, node.body)
            self._forget(node)
        del self._path[level + 1 :]
        owner = self._path[level]
        if closing:
            self._forget(owner)
            return after - 1
        digest = owner.subtype.lower() == b"digest"
        return self._enter(after, (b"message", b"rfc822", []) if digest else _PLAIN_TEXT) - 1

    def _delimiter(self, at: int) -> tuple[int, bool, int] | None:
        """(level, is it the closing one, offset after the line) if a delimiter line follows the line end at `at`."""
        data = self._data
        stop = data.find(b"\n", at + 3, at + 3 + _MAX_BOUNDARY + 100)
        if stop < 0:
            if len(data) > at + 3 + _MAX_BOUNDARY + 100:
                return None
            stop = len(data)
        text = data[at + 3 : stop].rstrip(b" \t\r")
        levels = self._active.get(text)
        if levels:
            return levels[-1], False, min(stop + 1, len(data))
        levels = self._active.get(text[:-2]) if text.endswith(b"--") else None
        if levels:
            return levels[-1], True, min(stop + 1, len(data))
        return None

    def _forget(self, node: Node) -> None:
        if node.boundary is not None:
            levels = self._active[node.boundary]
            levels.pop()
            if not levels:
                del self._active[node.boundary]
            node.boundary = None

    def _enter(self, pos: int, default: tuple[bytes, bytes, Params], *, root: bool = False) -> int:
        """Open the part whose header is at `pos`, and the messages inside it; returns where its body begins."""
        limits = self._limits
        while True:
            node = Node(pos)
            node.is_root = root
            node.body = node.end = self._header_end(pos)
            if node.body > pos:
                wanted = MESSAGE_FIELDS if root else PART_FIELDS
                node.fields = parse_fields(self._data, pos, node.body, wanted, limits)
            if self._path:
                self._path[-1].children.append(node)
            self._path.append(node)
            self._parts += 1
            self._type(node, default)
            if node.kind == MULTIPART and node.boundary is not None:
                self._active.setdefault(node.boundary, []).append(len(self._path) - 1)
            if self._parts >= limits.parts:
                self._active.clear()
                for open_node in self._path:
                    open_node.boundary = None
                if node.kind != LEAF:
                    node.kind, node.maintype, node.subtype, node.params = LEAF, b"application", b"octet-stream", []
            if node.kind != MESSAGE:
                return node.body
            pos, default, root = node.body, _PLAIN_TEXT, True

    def _type(self, node: Node, default: tuple[bytes, bytes, Params]) -> None:
        """What the part is, and whether it is opened."""
        value = node.fields.get(b"content-type")
        parsed = parse_type(value, self._limits.parameters) if value else None
        if parsed is None:
            node.maintype, node.subtype, node.params = default if value is None else _PLAIN_TEXT
        else:
            node.maintype, node.subtype, node.params = parsed
        main = node.maintype.lower()
        if main == b"multipart":
            boundary = (param(node.params, b"boundary") or b"").rstrip(b" \t")
            if not boundary or len(boundary) > _MAX_BOUNDARY:
                node.maintype, node.subtype, node.params = b"text", b"plain", []
                return
            node.kind, node.boundary = MULTIPART, boundary
        elif main == b"message" and node.subtype.lower() in (b"rfc822", b"global"):
            node.kind = MESSAGE
        if node.kind != LEAF and len(self._path) > self._limits.depth:
            node.kind, node.boundary = LEAF, None
            node.maintype, node.subtype, node.params = b"application", b"octet-stream", []

    def _header_end(self, pos: int) -> int:
        """Offset of the body of the part at `pos`. A delimiter of an open multipart ends a header, too."""
        data = self._data
        if not self._active:
            return header_end(data, pos)
        scan = pos - 1
        while True:
            at = data.find(b"\n--", scan, pos + _HEADER_WINDOW)
            if at < 0:
                blank = header_end(data, pos, min(pos + _HEADER_WINDOW, len(data)))
                if blank < min(pos + _HEADER_WINDOW, len(data)):
                    return blank
                at = data.find(b"\n--", max(scan, pos + _HEADER_WINDOW - 3))
                if at < 0:
                    return header_end(data, pos)
            blank = header_end(data, pos, at + 1)
            if blank <= at or data[blank - 2 : blank] == b"\n\n" or data[blank - 3 : blank] == b"\n\r\n":
                return blank
            if self._delimiter(at) is not None:
                return max(pos, at - 1 if data[at - 1 : at] == b"\r" else at)
            scan = at + 1


def _settle(root: Node) -> None:
    """A multipart in which no part was found is text: its reader sees what is there."""
    todo = [root]
    while todo:
        node = todo.pop()
        if node.kind == MULTIPART and not node.children:
            node.kind, node.maintype, node.subtype, node.params = LEAF, b"text", b"plain", []
        todo.extend(node.children)
