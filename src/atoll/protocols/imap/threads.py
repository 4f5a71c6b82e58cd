"""protocols.imap.threads -- THREAD's two algorithms, on sort keys.

In     SortRow values of the messages. Out  a forest of Node, printed without recursion.
Spec   [RFC 5256 §3]: ORDEREDSUBJECT; REFERENCES with its steps 1 to 6.
Fails  never: loops among references are cut, chains of any length are walked without recursion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from atoll.mailbox.model import SortRow


class Node:
    """A message, or (row None) one that is only referred to."""

    __slots__ = ("children", "parent", "row")

    def __init__(self, row: SortRow | None = None) -> None:
        self.row = row
        self.parent: Node | None = None
        self.children: list[Node] = []

    def adopt(self, child: Node) -> None:
        if child.parent is not None:
            child.parent.children.remove(child)
        child.parent = self
        self.children.append(child)

    def below(self, other: Node) -> bool:
        """Is this node `other`, or under it?"""
        node: Node | None = self
        while node is not None:
            if node is other:
                return True
            node = node.parent
        return False


def ordered_subject(rows: Iterable[SortRow]) -> list[Node]:
    """Threads of equal base subjects, by the date of their first message; the others are its children."""
    groups: dict[str, list[SortRow]] = {}
    for row in sorted(rows, key=_when):
        groups.setdefault(row[3], []).append(row)
    roots = []
    for group in groups.values():
        root = Node(group[0])
        for row in group[1:]:
            child = Node(row)
            child.parent = root
            root.children.append(child)
        roots.append(root)
    return roots  # dict order is the order of the first dates


def _when(row: SortRow) -> tuple[int, int]:
    return row[7], row[0]


def references(rows: Iterable[SortRow]) -> list[Node]:
    """Threads by Message-ID and References [RFC 5256 §3, REFERENCES]."""
    roots = _prune(_linked(rows))
    roots.sort(key=_first_date)
    roots = _gather_subjects(roots)
    return _sorted_children(roots)


def _linked(rows: Iterable[SortRow]) -> list[Node]:
    """Steps 1 and 2: every message under the last message that it refers to."""
    nodes: dict[bytes, Node] = {}
    every: list[Node] = []

    def named(message_id: bytes) -> Node:
        node = nodes.get(message_id)
        if node is None:
            node = nodes[message_id] = Node()
            every.append(node)
        return node

    for row in rows:
        known = nodes.get(row[8]) if row[8] else None
        if not row[8] or (known is not None and known.row is not None):  # none, or used twice: a name of its own
            node = Node(row)
            every.append(node)
        else:
            node = named(row[8])
            node.row = row
        parent: Node | None = None
        for reference in row[9]:
            step = named(reference)
            if parent is not None and step.parent is None and not parent.below(step):
                parent.adopt(step)
            parent = step
        if parent is not None and not parent.below(node):
            parent.adopt(node)  # its own References are a better word than others'
        elif parent is None and node.parent is not None and not row[9]:
            pass  # others put it here; it says nothing itself
    return [node for node in every if node.parent is None]


def _prune(roots: list[Node]) -> list[Node]:
    """Step 3: nodes without a message go, their children move up; a root keeps several together."""
    order: list[Node] = []
    stack = list(roots)
    while stack:
        node = stack.pop()
        order.append(node)
        stack.extend(node.children)
    for node in reversed(order):  # children before parents
        kept: list[Node] = []
        for child in node.children:
            if child.row is None:
                for grandchild in child.children:
                    grandchild.parent = node
                kept.extend(child.children)
            else:
                kept.append(child)
        node.children = kept
    result = []
    for root in roots:
        if root.row is None and len(root.children) == 1:
            root.children[0].parent = None
            result.append(root.children[0])
        elif root.row is not None or root.children:
            result.append(root)
    return result


def _first_date(node: Node) -> tuple[int, int]:
    if node.row is not None:
        return _when(node.row)
    return min(_when(child.row) for child in node.children if child.row is not None)


def _subject_row(node: Node) -> SortRow | None:
    return node.row if node.row is not None else min(node.children, key=_first_date).row


def _is_reply(node: Node) -> bool:
    """Does its own subject say so? A node without a message says nothing."""
    return node.row is not None and node.row[10]


def _gather_subjects(roots: list[Node]) -> list[Node]:
    """Step 5: threads of one subject become one. The table holds the best thread of each subject."""
    table: dict[str, Node] = {}
    for root in roots:
        row = _subject_row(root)
        if row is None or not row[3]:
            continue
        known = table.get(row[3])
        if known is None or (root.row is None and known.row is not None) or (_is_reply(known) and not _is_reply(root)):
            table[row[3]] = root
    result: list[Node] = []
    place: dict[int, int] = {}
    for root in roots:
        row = _subject_row(root)
        best = table.get(row[3]) if row is not None and row[3] else None
        if best is None or best is root:
            place[id(root)] = len(result)
            result.append(root)
            continue
        _join(best, root, table, row, result, place)
    return result


def _join(best: Node, root: Node, table: dict[str, Node], row: SortRow | None, result: list[Node],
          place: dict[int, int]) -> None:
    if best.row is None and root.row is None:
        for child in list(root.children):
            best.adopt(child)
    elif best.row is None or (_is_reply(root) and not _is_reply(best)):
        best.adopt(root)
    else:  # two of one subject: siblings under an empty one [RFC 5256 §3 step 5.C]
        pair = Node()
        assert row is not None
        table[row[3]] = pair
        if id(best) in place:
            result[place[id(best)]] = pair
            place[id(pair)] = place[id(best)]
        pair.adopt(best)
        pair.adopt(root)


def _sorted_children(roots: list[Node]) -> list[Node]:
    """Step 6: siblings by their dates."""
    stack = list(roots)
    while stack:
        node = stack.pop()
        if len(node.children) > 1:
            node.children.sort(key=_first_date)
        stack.extend(node.children)
    return sorted(roots, key=_first_date)


def render(roots: Iterable[Node], number: Callable[[int], int]) -> bytes:
    """(1 2 (3)(4 5))(6) with number(uid) for each message [RFC 5256 §4]."""
    out: list[bytes] = []
    for root in roots:
        # The stack holds nodes to open and text to write after them.
        stack: list[Node | bytes] = [b")", root, b"("]
        while stack:
            item = stack.pop()
            if isinstance(item, bytes):
                out.append(item)
                continue
            if item.row is not None:
                out.append(b"%d" % number(item.row[0]))
                if item.children:
                    out.append(b" ")
            if len(item.children) == 1:
                stack.append(item.children[0])
            else:
                for child in reversed(item.children):
                    stack += [b")", child, b"("]
    return b"".join(out)
