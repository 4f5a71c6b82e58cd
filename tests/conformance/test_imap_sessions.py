"""IMAP: several sessions on one mailbox [RFC 9051 §5.2, §5.5, §7.5.1], [RFC 4315], [RFC 6851], [RFC 2180], and a model."""

from __future__ import annotations

import random
import threading
import time

import pytest

from tests.conformance.conftest import World
from tests.conformance.imap import Imap, Reply, Untagged, numbers

pytestmark = pytest.mark.island

MAIL = b"Subject: x\r\n\r\nbody\r\n"


def fill(client: Imap, box: str, count: int) -> None:
    client.ok(f"APPEND {box} ", *([MAIL] + [part for _ in range(count - 1) for part in (" ", MAIL)]))


@pytest.fixture
def two(world: World, box: str) -> tuple[Imap, Imap]:
    """Two sessions on a mailbox of five messages."""
    one, other = world.alice(), world.alice()
    fill(one, box, 5)
    one.select(box)
    other.select(box)
    return one, other


def test_6_4_3_expunge(imap: Imap, box: str) -> None:
    fill(imap, box, 7)
    imap.select(box)
    imap.ok("STORE 3,4,7 +FLAGS.SILENT (\\Deleted)")
    gone = imap.ok("EXPUNGE").numbers("EXPUNGE")
    left = list(range(1, 8))
    for number in gone:
        del left[number - 1]
    assert left == [1, 2, 5, 6]
    assert imap.uids() == [1, 2, 5, 6]
    assert imap.ok("EXPUNGE").untagged == []


def test_rfc4315_uid_expunge(imap: Imap, box: str) -> None:
    fill(imap, box, 5)
    imap.select(box)
    imap.ok("STORE 1:4 +FLAGS.SILENT (\\Deleted)")
    assert imap.ok("UID EXPUNGE 2:3,5,99").numbers("EXPUNGE") in ([2, 2], [3, 2])
    assert imap.uids() == [1, 4, 5]


def test_7_5_1_no_expunge_during_fetch_store_search(two: tuple[Imap, Imap]) -> None:
    one, other = two
    one.ok("STORE 2,4 +FLAGS.SILENT (\\Deleted)")
    one.ok("EXPUNGE")
    for command in ("FETCH 1:5 (UID FLAGS)", "STORE 5 +FLAGS (\\Flagged)", "SEARCH ALL", "FETCH 3 BODY.PEEK[]",
                    "SORT (ARRIVAL) UTF-8 ALL", "THREAD REFERENCES UTF-8 ALL"):
        reply = other.ok(command)
        assert reply.all("EXPUNGE") == [], command
        assert reply.all("VANISHED") == []
    found = other.ok("FETCH 1:5 UID").fetched()
    assert {number: items["UID"] for number, items in found.items()} == {number: str(number) for number in range(1, 6)}
    assert other.ok("SEARCH UID 5").search() == [5]
    assert other.cmd("FETCH 2 FLAGS").status in ("OK", "NO")
    gone = other.ok("NOOP").numbers("EXPUNGE")
    assert gone in ([2, 3], [4, 2])
    assert other.ok("FETCH 1:* UID").fetched().keys() == {1, 2, 3}


def test_uid_commands_may_tell_of_expunges(two: tuple[Imap, Imap]) -> None:
    one, other = two
    one.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
    one.ok("EXPUNGE")
    gone = other.ok("UID FETCH 2 FLAGS").numbers("EXPUNGE") + other.ok("NOOP").numbers("EXPUNGE")
    assert gone == [1]


def test_7_exists_and_flags_of_others(two: tuple[Imap, Imap], box: str) -> None:
    one, other = two
    one.append(box, MAIL)
    reply = other.ok("NOOP")
    assert reply.numbers("EXISTS") == [6]
    one.ok("STORE 2:3 +FLAGS (\\Flagged kw)")
    found = other.ok("NOOP").fetched()
    assert {number: {"\\Flagged", "kw"} <= set(items["FLAGS"]) for number, items in found.items()} == {2: True, 3: True}
    assert other.ok("NOOP").untagged == []
    assert one.ok("NOOP").all("FETCH") == []


def test_7_3_2_recent_is_the_number_of_all_recent(world: World, box: str) -> None:
    client = world.alice()
    fill(client, box, 3)
    assert client.select(box).numbers("RECENT") == [3]
    world.alice().append(box, MAIL)
    assert client.ok("NOOP").numbers("RECENT") == [4]


def test_recent_belongs_to_one_session(two: tuple[Imap, Imap], box: str) -> None:
    one, other = two
    one.append(box, MAIL)
    first, second = one.ok("NOOP"), other.ok("NOOP")
    assert (first.numbers("EXISTS") or [6])[-1] == 6
    recent = ["\\Recent" in client.flags(6) for client in (one, other)]
    assert recent.count(True) <= 1, recent
    assert second.numbers("EXISTS") == [6]


def test_recent_is_taken_by_read_write_sessions_only(world: World, box: str) -> None:
    sender, looker, one, other = (world.alice() for _ in range(4))
    looker.ok(f"EXAMINE {box}")
    sender.append(box, MAIL)
    assert looker.ok("NOOP").numbers("RECENT") == [1]
    assert one.select(box).numbers("RECENT") == [1]
    sender.append(box, MAIL)
    assert looker.ok("NOOP").numbers("RECENT") == [2]
    assert one.ok("FETCH 1 FLAGS").numbers("RECENT") == [2]  # told with the answer of whatever command
    sender.append(box, MAIL)
    one.ok("NOOP")
    assert other.ok(f"STATUS {box} (RECENT)").one("STATUS").values[1] == ["RECENT", "0"]
    assert other.select(box).numbers("RECENT") == [0]
    assert one.ok("SEARCH RECENT").search() == [1, 2, 3]
    assert other.ok("SEARCH RECENT").search() == []
    assert other.ok("SEARCH OLD").search() == [1, 2, 3]


def test_6_4_6_silent_does_not_hide_the_change_of_another(two: tuple[Imap, Imap]) -> None:
    """The change of an external source is told, .SILENT or not."""
    one, other = two
    one.ok("STORE 3 +FLAGS (\\Flagged)")
    reply = other.ok("STORE 3 +FLAGS.SILENT (\\Seen)")
    found = {**reply.fetched(), **other.ok("NOOP").fetched()}
    assert set(found[3]["FLAGS"]) - {"\\Recent"} == {"\\Flagged", "\\Seen"}
    assert other.ok("STORE 3 +FLAGS.SILENT (\\Draft)").untagged == []


@pytest.mark.parametrize(("command", "wanted", "told"), [
    ("STORE 1 FLAGS (\\Flagged kw)", {"\\Flagged", "kw"}, True), ("STORE 1 +FLAGS (\\Seen)", {"\\Seen"}, True),
    ("STORE 1 +FLAGS \\Seen \\Draft", {"\\Seen", "\\Draft"}, True), ("STORE 1 FLAGS ()", set(), True),
    ("STORE 1 -FLAGS (\\Seen)", set(), True), ("STORE 1 FLAGS.SILENT (\\Answered)", {"\\Answered"}, False),
    ("UID STORE 1 +FLAGS.SILENT (\\Seen)", {"\\Seen"}, False), ("UID STORE 1 FLAGS (a b c)", {"a", "b", "c"}, True),
])
def test_6_4_6_store(imap: Imap, box: str, command: str, wanted: set[str], told: bool) -> None:
    imap.append(box, MAIL)
    imap.select(box)
    reply = imap.ok(command)
    assert bool(reply.all("FETCH")) == told  # also when nothing changed: the client asked for the new value
    if told:
        assert set(reply.fetched()[1]["FLAGS"]) - {"\\Recent"} == wanted
    assert imap.flags(1) - {"\\Recent"} == wanted


def test_6_4_6_keyword_case_and_removal(imap: Imap, box: str) -> None:
    imap.append(box, MAIL, "MixedCase")
    imap.select(box)
    imap.ok("STORE 1 -FLAGS (mixedcase)")
    assert imap.flags(1) - {"\\Recent"} == set()
    imap.ok("STORE 1 +FLAGS (\\sEEn \\FLAGGED)")
    assert imap.flags(1) - {"\\Recent"} == {"\\Seen", "\\Flagged"}


def test_6_4_7_copy(imap: Imap, box: str) -> None:
    fill(imap, box, 4)
    imap.ok(f"CREATE {box}.to")
    imap.append(f"{box}.to", MAIL)
    imap.select(box)
    imap.ok("STORE 2 +FLAGS.SILENT (\\Deleted)")
    imap.ok("EXPUNGE")
    reply = imap.ok(f"COPY 2:3,1 {box}.to")
    validity, source, target = reply.code_of("COPYUID").split()
    assert validity == str(imap.ok(f"STATUS {box}.to (UIDVALIDITY)").one("STATUS").values[1][1])
    assert numbers(source) == [1, 3, 4]
    assert numbers(target) == [2, 3, 4]
    assert imap.no(f"COPY 1 {box}.nowhere").code == "TRYCREATE"
    imap.bad(f"COPY 9 {box}.to")
    reply = imap.ok(f"UID COPY 99 {box}.to")
    assert not reply.has_code("COPYUID")


def test_rfc2180_4_4_copy_of_what_is_gone(two: tuple[Imap, Imap], box: str) -> None:
    """By number: the client named something that it believes is there. By uid: it does not matter."""
    one, other = two
    one.ok("STORE 2 +FLAGS.SILENT (\\Deleted)")
    one.ok("EXPUNGE")
    assert other.no(f"COPY 2 {box}").code == "EXPUNGEISSUED"
    other.ok("NOOP")
    other.ok(f"UID COPY 2 {box}")
    assert other.no("UID COPY 2 nowhere").code == "TRYCREATE"
    other.ok(f"UID MOVE 2 {box}")


def test_rfc6851_move(two: tuple[Imap, Imap], box: str) -> None:
    one, other = two
    one.ok(f"CREATE {box}.to")
    reply = one.ok(f"MOVE 2,4 {box}.to")
    kinds = [one.kind for one in reply.untagged]
    assert kinds.index("OK") < kinds.index("EXPUNGE")  # COPYUID before the EXPUNGEs
    assert numbers(reply.code_of("COPYUID").split()[1]) == [2, 4]
    assert reply.numbers("EXPUNGE") in ([2, 3], [4, 2])
    assert other.ok("NOOP").numbers("EXPUNGE") in ([2, 3], [4, 2])
    assert one.uids() == [1, 3, 5]
    assert one.ok(f"STATUS {box}.to (MESSAGES)").one("STATUS").values[1] == ["MESSAGES", "2"]
    assert one.no(f"UID MOVE 3 {box}.nowhere").code == "TRYCREATE"
    assert one.uids() == [1, 3, 5]
    one.ok("UID STORE 1 +FLAGS (\\Deleted)")
    one.ok(f"UID MOVE 3 {box}.to")
    assert one.uids() == [1, 5]  # MOVE expunges nothing else


def test_rfc6851_move_into_the_same_mailbox(two: tuple[Imap, Imap], box: str) -> None:
    one, other = two
    reply = one.ok(f"MOVE 1 {box}")
    reply2 = one.ok("NOOP")
    uids = one.uids()
    assert len(uids) == 5
    other.ok("NOOP")
    assert other.uids() == uids
    assert reply is not reply2


def test_6_4_1_close_tells_others(two: tuple[Imap, Imap]) -> None:
    one, other = two
    one.ok("STORE 1,5 +FLAGS.SILENT (\\Deleted)")
    one.ok("CLOSE")
    assert other.ok("NOOP").numbers("EXPUNGE") in ([1, 4], [5, 1])


def test_uids_are_never_used_again(imap: Imap, box: str) -> None:
    fill(imap, box, 3)
    imap.select(box)
    imap.ok("STORE 1:* +FLAGS.SILENT (\\Deleted)")
    imap.ok("EXPUNGE")
    assert imap.append(box, MAIL) == 4
    imap.ok("NOOP")
    imap.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
    imap.ok("CLOSE")
    assert imap.select(box).code_of("UIDNEXT") == "5"


# the model: what a client believes must be what the server means


class Believer:
    """A session whose picture of the mailbox comes from untagged answers only."""

    def __init__(self, client: Imap, box: str, seed: int, *, qresync: bool) -> None:
        self.client, self.box, self.random = client, box, random.Random(seed)
        self.qresync = qresync
        self.uids: list[int] = []       # 0: not known yet
        self.flags: dict[int, frozenset[str]] = {}
        self.done = 0
        self.trace: list[tuple[float, str, str, int]] = []  # when, command, what came, of which uid
        if qresync:
            client.ok("ENABLE QRESYNC")
        self.take(client.ok(f"SELECT {box}"))
        self.away = ""  # another mailbox to which copies go
        self.learn()

    def take(self, reply: Reply, *, command: str = "") -> None:
        assert reply.status == "OK", (command, reply)
        for one in reply.untagged:
            self.untagged(one, command)

    def untagged(self, one: Untagged, command: str) -> None:
        if one.kind == "EXISTS":
            assert one.number >= len(self.uids), "EXISTS may not shrink"
            self.uids += [0] * (one.number - len(self.uids))
        elif one.kind == "EXPUNGE":
            assert not self.qresync, "VANISHED is to be used"
            assert not command.startswith(("FETCH", "STORE", "SEARCH")), (command, "EXPUNGE")
            assert 1 <= one.number <= len(self.uids)
            del self.uids[one.number - 1]
        elif one.kind == "VANISHED":
            assert not command.startswith(("FETCH", "STORE", "SEARCH")), (command, "VANISHED")
            assert isinstance(one.values[0], str), one
            for uid in numbers(one.values[0]):
                assert uid in self.uids or 0 in self.uids, (uid, self.uids)
                if uid in self.uids:
                    self.uids.remove(uid)
                else:
                    self.uids.remove(0)  # one that came and went before we looked
        elif one.kind == "FETCH":
            assert 1 <= one.number <= len(self.uids), (one.number, len(self.uids), command)
            items = dict(zip(one.values[0][::2], one.values[0][1::2], strict=True))
            uid = int(items.get("UID", 0))
            if uid:
                known = self.uids[one.number - 1]
                assert known in (0, uid), f"number {one.number} is {known}, now {uid} ({command})"
                self.uids[one.number - 1] = uid
            uid = self.uids[one.number - 1]
            if uid and "FLAGS" in items:
                self.trace.append((time.monotonic(), command, f"{one.number} {items}", uid))
                self.flags[uid] = frozenset(items["FLAGS"]) - {"\\Recent"}

    def ask(self, command: str, uid: int = 0) -> Reply:
        self.trace.append((time.monotonic(), command, "", uid))
        reply = self.client.cmd(command)
        self.take(reply, command=command.removeprefix("UID ") if not command.startswith("UID") else command)
        self.done += 1
        return reply

    def learn(self) -> None:
        """Ask for what is not known: flags of new messages too."""
        while 0 in self.uids:
            first = self.uids.index(0) + 1
            self.ask(f"FETCH {first}:* (UID FLAGS)")
            if 0 in self.uids:
                self.ask("NOOP")

    def step(self) -> None:
        choice = self.random.random()
        self.learn()
        count = len(self.uids)
        if count < 3 or (choice < 0.22 and count < 40):
            self.append()
        elif choice < 0.5:
            self.store(count)
        elif choice < 0.6 or count > 60:
            self.ask("EXPUNGE")
        elif choice < 0.7:
            self.ask(f"UID COPY {self.random.choice(self.uids)} {self.random.choice([self.box, self.away or self.box])}")
        elif choice < 0.76:
            self.ask(f"UID MOVE {self.random.choice(self.uids)} {self.random.choice([self.box, self.away or self.box])}")
        elif choice < 0.84:
            self.ask(f"UID FETCH {self.random.choice(self.uids)}:* FLAGS")
        elif choice < 0.9:
            self.search()
        else:
            self.ask("NOOP")

    def append(self) -> None:
        flags = self.random.choice(["", "(\\Seen) ", "(kw1) "])
        self.take(self.client.cmd(f"APPEND {self.box} {flags}", MAIL))

    def store(self, count: int) -> None:
        number = self.random.randint(1, count)
        op = self.random.choice(["+FLAGS", "-FLAGS", "FLAGS", "+FLAGS.SILENT"])
        flag = self.random.choice(["\\Deleted", "\\Seen", "kw1", "\\Flagged kw2"])
        uid = self.uids[number - 1]
        if op.endswith("SILENT") and uid in self.flags:  # nobody will tell us of our own change
            self.flags[uid] = self.flags[uid] | set(flag.split())
        self.ask(f"STORE {number} {op} ({flag})" if self.random.random() < 0.5
                 else f"UID STORE {uid} {op} ({flag})", uid)

    def search(self) -> None:
        found = self.ask("SEARCH ALL").search()
        assert all(1 <= number <= len(self.uids) for number in found)

    def settle(self) -> tuple[list[int], dict[int, frozenset[str]]]:
        self.ask("NOOP")
        self.learn()
        self.ask("NOOP")
        return self.uids, {uid: self.flags[uid] for uid in self.uids}


def history(believers: list[Believer], uids: set[int]) -> list[str]:
    """What each session did to and heard of these messages, in order of time."""
    lines = sorted((at, f"{number} {command!r} <- {heard}", uid) for number, one in enumerate(believers)
                   for at, command, heard, uid in one.trace if uid in uids)
    return [f"{uid}: {at:.4f} {line}" for at, line, uid in lines[-60:]]


def run_believers(world: World, box: str, seconds: float, seed: int) -> int:
    setup = world.alice()
    fill(setup, box, 10)
    believers = [Believer(world.alice(), box, seed + number, qresync=number == 3) for number in range(4)]
    return run(world, believers, world.demo("alice"), box, seconds)


def run(world: World, believers: list[Believer], login: tuple[str, str], box: str, seconds: float) -> int:
    """Let them work at once; then each must believe what a new session of `login` sees."""
    deadline = time.monotonic() + seconds
    faults: list[BaseException] = []

    def live(one: Believer) -> None:
        try:
            while time.monotonic() < deadline and not faults:
                one.step()
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=live, args=(one,)) for one in believers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    truth = world.imap(login)
    truth.ok(f"SELECT {box}")
    fetched = truth.ok("FETCH 1:* (UID FLAGS)").fetched()
    uids = [int(fetched[number]["UID"]) for number in sorted(fetched)]
    flags = {int(items["UID"]): frozenset(items["FLAGS"]) - {"\\Recent"} for items in fetched.values()}
    for one in believers:
        believed_uids, believed_flags = one.settle()
        assert believed_uids == uids
        wrong = {uid for uid in flags if flags[uid] != believed_flags[uid]}
        assert not wrong, "\n".join(history(believers, wrong))
    return sum(one.done for one in believers)


def test_four_sessions_never_diverge(world: World, box: str) -> None:
    seed = random.randrange(10**9)
    print("seed", seed)
    assert run_believers(world, box, 6.0, seed) > 200


@pytest.mark.parametrize("owner", ["bob", "admin"])
def test_four_sessions_of_two_people_never_diverge(world: World, owner: str) -> None:
    """A shared folder, used by its owner and by alice: it lives in another process than she does, or in hers."""
    seed = random.randrange(10**9)
    print("seed", seed)
    login = world.demo(owner)
    own = world.imap(login)
    own.ok("CREATE Common")
    own.ok(f"SETACL Common {world.demo('alice')[0]} lrswite")
    world.alice().ok(f"CREATE Taken-{owner}")
    fill(own, "Common", 10)
    name = f'"Other Users/{login[0]}/Common"'
    believers = [Believer(world.imap(login), "Common", seed, qresync=False),
                 Believer(world.imap(login), "Common", seed + 1, qresync=True),
                 Believer(world.alice(), name, seed + 2, qresync=False),
                 Believer(world.alice(), name, seed + 3, qresync=True)]
    for one in believers[2:]:
        one.away = f"Taken-{owner}"
    assert run(world, believers, login, "Common", 5.0) > 100
