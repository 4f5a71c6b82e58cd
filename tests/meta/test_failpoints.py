"""Every commit, fsync and reply has a failpoint; each is described in docs/faults.md, and no other is.

Spec   docs/faults.md, "Where one has to stand". A place has one if FAILPOINTS.hit(...) stands within NEAR lines of it
       in its function (a commit: before it and after it), or beside each reference to that function in its module, and
       so on upwards. Where neither can be, a comment says why: "# failpoint: NAME" for one that another module has,
       "# failpoint: none, REASON" where a death leaves nothing to find.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "atoll"
NAME = re.compile(r"^[a-z0-9]+(\.[a-z_]+)+$")
REQUIRED = ("transport", "delivery", "mailbox")
"""At every commit, fsync and reply of these [issue 1, Faults]."""
PARTS = ("sql", "mailbox", "transport", "delivery", "directory/server/database.py", "protocols/lmtp",
         "protocols/imap/session.py", "protocols/pop3/session.py")
"""What they consist of."""
NEAR = 8
REPLIES = {
    "sql/group.py": r"unit\.future\.set_result\(|self\._apart\(call\)",
    "transport/pipeline.py": r"done\(replies\.OK\)",
    "delivery/into_mailbox.py": r"current\.settle\(\)",
    "protocols/lmtp/server.py": r"_reply\(result\)",
    "protocols/imap/session.py": r"self\.write\(status\(tag, word, text, code\)\)",
    "protocols/pop3/session.py": r"self\.transport\.write\(ok\('Bye'\)",
}
"""Where somebody is told that it is done, or something is done for others: file -> how that is written."""
COMMENT = re.compile(r"#\s*failpoint: (?:none, .{10,}|((?:[a-z0-9]+(?:\.[a-z_]+)+(?:, |$))+)$)")


# -- names and their descriptions -----------------------------------------------------------------------------------


def name_of(call: ast.Call) -> str:
    """What is given to hit(): whole, or with * for what is put in."""
    first = call.args[0]
    if isinstance(first, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in first.values)
    return str(first.value) if isinstance(first, ast.Constant) else "*"


def is_call(node: ast.AST, method: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method


def hit() -> set[str]:
    """Names of the code."""
    return {name_of(node) for path in SOURCE.rglob("*.py") for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Call) and is_call(node, "hit")}


def described() -> set[str]:
    """Names in the first column of the table."""
    text = (ROOT / "docs" / "faults.md").read_text("utf-8")
    return {name for cell in re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE)
            for name in re.findall(r"`([^`]+)`", cell)}


def matches(name: str, pattern: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", "[a-z0-9_]+"), name) is not None


def test_each_failpoint_is_described() -> None:
    known = described()
    assert {name for name in hit() if not any(matches(other, name) for other in known)} == set()


def test_nothing_is_described_that_is_not_there() -> None:
    there = hit()
    assert {name for name in described() if not any(matches(name, other) for other in there)} == set()


def test_each_is_armed_by_a_test() -> None:
    """A failpoint at which nothing was ever made to die proves nothing."""
    tests = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py") if "meta" not in path.parts)
    assert {name for name in described() if not re.search(rf'[",]{re.escape(name)}["=]', tests)} == set()


def test_every_part_that_commits_has_some() -> None:
    names = described()
    assert all(NAME.match(name) for name in names)
    assert {part for part in REQUIRED if not any(name.startswith(part + ".") for name in names)} == set()


# -- places ---------------------------------------------------------------------------------------------------------


@dataclass
class Function:
    """What of it matters here; numbers are lines."""

    name: str
    line: int
    hits: list[int] = field(default_factory=list)
    excused: list[int] = field(default_factory=list)
    places: list[tuple[int, str]] = field(default_factory=list)
    uses: list[tuple[int, str]] = field(default_factory=list)
    """Names that stand in it: other functions are called, or handed on, by them."""

    def has(self, line: int, *, both: bool) -> bool:
        """Is there a failpoint for this line? both: before and after."""
        if any(0 <= line - at <= 2 or at == self.line for at in self.excused):
            return True
        before = any(0 <= line - at <= NEAR for at in self.hits)
        after = any(0 < at - line <= NEAR for at in self.hits)
        return before and after if both else before or after


def kind_of(node: ast.AST, reply: str) -> str:
    """commit, fsync, switch (a file takes the place of another), reply, or ""."""
    if isinstance(node, ast.Attribute) and node.attr == "commit":
        return "commit"
    if not isinstance(node, ast.Call):
        return ""
    text = ast.unparse(node)
    if is_call(node, "execute") and re.match(r"\W*[^(]*\(['\"][^'\"]*\bCOMMIT\b", text):
        return "commit"
    if re.match(r"os\.f(data)?sync\(", text) or is_call(node, "checkpoint"):
        return "fsync"
    if re.match(r"os\.(replace|rename)\(", text):
        return "switch"
    return "reply" if reply and re.match(reply, text) else ""


def functions(text: str, reply: str) -> list[Function]:
    """Every function of a module; code outside of them counts as one. What is given to a writer's between() is not a
    place: the writer has the failpoints (sql/group.py)."""
    lines = text.splitlines()
    found: list[Function] = []

    def walk(node: ast.AST, inside: Function, aside: bool) -> None:
        for child in ast.iter_child_nodes(node):
            within = inside
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                within = Function(child.name, child.lineno)
                within.excused = [number for number in range(child.lineno, (child.end_lineno or child.lineno) + 1)
                                  if COMMENT.search(lines[number - 1])]
                found.append(within)
            elif is_call(child, "hit"):
                inside.hits.append(child.lineno)  # type: ignore[attr-defined]
            elif (kind := kind_of(child, reply)) and not aside:
                inside.places.append((child.lineno, kind))  # type: ignore[attr-defined]
            if isinstance(child, ast.Name | ast.Attribute):
                inside.uses.append((child.lineno, child.id if isinstance(child, ast.Name) else child.attr))
            walk(child, within, aside or is_call(child, "between"))

    outside = Function("module", 0)
    found.append(outside)
    walk(ast.parse(text), outside, False)
    return found


def bare(text: str, reply: str = "") -> set[tuple[str, str]]:
    """(function, or "function from the one where the way up ends"; kind of place) that no test can make fail."""
    known = functions(text, reply)

    def ends(function: Function, line: int, *, both: bool, seen: tuple[str, ...]) -> set[str]:
        """Where the ways up from a line end without a failpoint; "" for those that come to one."""
        if function.has(line, both=both):
            return {""}
        users = [(user, at) for user in known for at, name in user.uses
                 if name == function.name and user.name not in (*seen, function.name)]
        return set().union(*(ends(user, at, both=False, seen=(*seen, function.name)) for user, at in users)) \
            or {function.name}

    return {(function.name if end == function.name else f"{function.name} from {end}", kind)
            for function in known for line, kind in function.places
            for end in ends(function, line, both=kind == "commit", seen=()) if end}


def modules() -> Iterator[tuple[str, str]]:
    """(name below src/atoll, text) of what is looked at."""
    for part in PARTS:
        path = SOURCE / part
        for one in [path] if path.is_file() else sorted(path.rglob("*.py")):
            yield one.relative_to(SOURCE).as_posix(), one.read_text("utf-8")


def test_each_commit_fsync_and_reply_has_a_failpoint() -> None:
    found = {(name, *place) for name, text in modules() for place in bare(text, REPLIES.get(name, ""))}
    assert found == set()


def test_what_is_looked_for_is_there() -> None:
    """A pattern that fits nothing would find nothing missing."""
    kinds = {name: {kind for function in functions(text, REPLIES.get(name, "")) for _, kind in function.places}
             for name, text in modules()}
    assert {name for name in REPLIES if "reply" not in kinds[name]} == set()
    assert {"commit", "fsync", "switch", "reply"} <= set().union(*kinds.values())


def test_comments_name_what_is_there() -> None:
    there = hit()
    named = {name for _, text in modules() for line in text.splitlines() if (found := COMMENT.search(line)) and found[1]
             for name in found[1].split(", ")}
    assert {name for name in named if not any(matches(name, other) for other in there)} == set()
    unclear = {(name, line.strip()) for name, text in modules() for line in text.splitlines()
               if "# failpoint" in line and not COMMENT.search(line)}
    assert unclear == set()


BEFORE, AFTER = '    F.hit("x.commit.before")\n', '    F.hit("x.commit.after")\n'


@pytest.mark.parametrize(("text", "missing"), [
    (f"def f(db):\n{BEFORE}    db.commit()\n{AFTER}", set()),
    (f"def f(db):\n{BEFORE}    db.commit()\n", {("f", "commit")}),
    (f"def f(db):\n    db.commit()\n{AFTER}", {("f", "commit")}),
    (f"def f(db):\n{BEFORE}" + "    g()\n" * 9 + f"    db.commit()\n{AFTER}", {("f", "commit")}),
    (f"def f(db):\n{BEFORE}    db.commit()\n{AFTER}def g(db):\n    db.commit()\n", {("g", "commit")}),
    (f"async def f(db, lane):\n{BEFORE}    await lane.run(db.commit)\n{AFTER}", set()),
    (f"def f(db):\n{BEFORE}    g(db)\ndef g(db):\n    db.commit()\n", set()),
    (f"def f(db):\n{BEFORE}    run(g, db)\ndef g(db):\n    db.commit()\ndef h(db):\n    g(db)\n",
     {("g from h", "commit")}),
    ("import os\ndef f(fd):\n    os.fsync(fd)\n", {("f", "fsync")}),
    ("import os\ndef f(fd):\n    os.fsync(fd)  # failpoint: x.commit.before\n", set()),
    ("import os\ndef f(fd):\n    # failpoint: none, nobody waits for it\n    os.fsync(fd)\n", set()),
    ("import os\ndef f(fd):\n    os.fsync(fd)  # failpoint: none\n", {("f", "fsync")}),
    ("import os\ndef f(a, b):  # failpoint: none, nobody waits for it\n    x\n    x\n    x\n    os.replace(a, b)\n",
     set()),
    ("import os\ndef f(a, b):\n    os.replace(a, b)\n", {("f", "switch")}),
    ("def f(w, db):\n    w.between(lambda: db.checkpoint())\n", set()),
    ("def f(db):\n    db.checkpoint()\n", {("f", "fsync")}),
    ("def f(db):\n    db.execute('COMMIT')\n", {("f", "commit")}),
    ("def f(done):\n    done(replies.OK)\n", {("f", "reply")}),
    ("def f(done):\n    F.hit('x.reply.before')\n    done(replies.OK)\n", set()),
    ("def f():\n    g()\n    db.commit()\ndef g():\n    f()\n", {("f from g", "commit")}),
])
def test_a_missing_one_is_found(text: str, missing: set[tuple[str, str]]) -> None:
    assert bare(text, r"done\(replies\.OK\)") == missing
