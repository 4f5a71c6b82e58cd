"""A mailbox process dies with the answer on its tongue: done or not, once at most, and what was answered is there."""

from __future__ import annotations

import imaplib
import poplib

import pytest

from tests.island import Island
from tests.roles.people import imap_again, message, subjects

pytestmark = pytest.mark.island


def test_imap_before_the_tagged_answer() -> None:
    acknowledged: list[str] = []
    with Island(environment={"ATOLL_FAILPOINTS": "imap.reply.before=kill@9"}) as island:
        before = island.pids()
        client, _ = imap_again(island, "alice")
        died = 0
        for number in range(20):
            try:
                status, _ = client.append("INBOX", "", "", bytes(message(str(number))))
                assert status == "OK"
                acknowledged.append(str(number))
            except (imaplib.IMAP4.abort, OSError):
                died += 1
                client, _ = imap_again(island, "alice")
        found = [word for word in subjects(client) if word.isdigit()]
        after = island.pids()
        client.logout()
    assert died == 1
    assert len([role for role, pid in before.items() if after.get(role) != pid]) == 1
    assert len(acknowledged) == 19
    assert set(acknowledged) <= set(found)
    assert len(found) == len(set(found))


def test_pop3_before_the_answer_to_quit() -> None:
    with Island(environment={"ATOLL_FAILPOINTS": "pop3.reply.before=kill"}) as island:
        client, _ = imap_again(island, "alice")
        for number in range(4):
            assert client.append("INBOX", "", "", bytes(message(str(number))))[0] == "OK"
        pop = poplib.POP3_SSL("localhost", island.ports["pop3s"], context=island.tls(), timeout=20)
        pop.user(f"alice@{island.domain}")
        pop.pass_(island.password("alice"))
        count = pop.stat()[0]
        for number in range(count - 3, count - 1):  # "0" and "1"
            pop.dele(number)
        with pytest.raises((poplib.error_proto, OSError)):
            pop.quit()
        client, _ = imap_again(island, "alice")
        found = [word for word in subjects(client) if word.isdigit()]
        client.logout()
    assert found == ["2", "3"]  # marked messages go in one commit before the answer


@pytest.mark.parametrize("target", ["admin", "bob"])
def test_imap_between_the_halves_of_a_move(target: str) -> None:
    """MOVE into another person's mailbox, of the same process or of another: never in neither."""
    with Island(environment={"ATOLL_FAILPOINTS": "imap.move.copied=kill"}) as island:
        owner, _ = imap_again(island, target)
        owner.create("Team")
        assert owner.setacl("Team", f"alice@{island.domain}", "lri")[0] == "OK"
        client, _ = imap_again(island, "alice")
        for number in range(3):
            assert client.append("Archive", "", "", bytes(message(str(number))))[0] == "OK"
        client.select("Archive")
        command = ("MOVE", "1:3", f'"Other Users/{target}@{island.domain}/Team"')
        with pytest.raises((imaplib.IMAP4.abort, OSError)):
            client.uid(*command)
        client, _ = imap_again(island, "alice")
        client.select("Archive")
        left = [word for word in subjects(client, "Archive") if word.isdigit()]
        owner, _ = imap_again(island, target)
        came = [word for word in subjects(owner, "Team") if word.isdigit()]
        client.select("Archive")
        assert client.uid(*command)[0] == "OK"  # whoever tries again has them twice there, but has them
        assert [word for word in subjects(client, "Archive") if word.isdigit()] == []
        client.logout()
    assert came == ["0", "1", "2"]
    assert left == ["0", "1", "2"]
