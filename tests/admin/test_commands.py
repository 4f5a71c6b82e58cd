"""`atoll NOUN VERB` against the real API: what is printed, exit codes, what is changed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from atoll.admin import ops
from atoll.admin.cli import NOUNS, cli
from atoll.base import audit

from .conftest import Island


def test_domains(island: Island) -> None:
    assert island.run("domain", "create", "Example.TEST").exit_code == 0
    assert island.run("domain", "create", "example.test").exit_code == 1  # there already
    assert island.run("domain", "create", "bad domain").exit_code == 1
    assert island.json("domain", "list")["domains"] == [
        {"name": "example.test", "mailboxes": 0, "aliases": 0, "catch_all": ""}]
    assert island.run("domain", "show", "other.test").exit_code == 3
    assert island.run("domain", "remove", "example.test").exit_code == 2  # not a terminal: --yes
    assert island.run("domain", "remove", "example.test", "--yes").exit_code == 0
    assert island.json("domain", "list")["domains"] == []


def test_a_domain_in_use_is_not_removed(alice: Island) -> None:
    result = alice.run("domain", "remove", "example.test", "--yes")
    assert result.exit_code == 1
    assert "still has addresses" in result.stderr


def test_mailboxes(alice: Island) -> None:
    made = alice.json("mailbox", "create", "bob@example.test", "--quota", "10G")
    assert re.fullmatch(r"([a-z2-7]{5}-){5}[a-z2-7]", made["password"])  # 128 bits, told once
    assert made["database"] == "db2"  # the one with the fewest
    assert alice.run("mailbox", "create", "bob@example.test").exit_code == 1
    assert alice.run("mailbox", "create", "bob@other.test").exit_code == 3
    rows = alice.json("mailbox", "list")["mailboxes"]
    assert [(row["address"], row["display"], row["quota"]["receive"]) for row in rows] == [
        ("alice@example.test", "Alice Doe", 0), ("bob@example.test", "", 10 << 30)]
    assert [row["address"] for row in alice.json("mailbox", "list", "--text", "Doe")["mailboxes"]] == [
        "alice@example.test"]
    assert alice.json("mailbox", "list", "--text", "%")["mailboxes"] == []
    assert alice.run("mailbox", "change", "alice@example.test", "--display", "A. Doe", "--protocol", "imap"
                     ).exit_code == 0
    shown = alice.json("mailbox", "show", "ALICE@example.test")
    assert (shown["mailbox"]["display"], shown["protocols"]) == ("A. Doe", ["imap"])
    assert alice.run("mailbox", "disable", "alice@example.test").exit_code == 0
    assert not alice.json("mailbox", "show", "alice@example.test")["mailbox"]["enabled"]
    assert alice.run("mailbox", "enable", "alice@example.test").exit_code == 0
    assert alice.run("mailbox", "remove", "bob@example.test", "--yes").exit_code == 0
    assert alice.run("mailbox", "show", "bob@example.test").exit_code == 3
    assert alice.run("mailbox", "create", "bob@example.test").exit_code == 0  # the name is free, the id is new


@pytest.mark.parametrize("stdin", ["", "\n", "short\n", "x" * 1025 + "\n"])
def test_bad_passwords_are_not_taken(alice: Island, stdin: str) -> None:
    result = alice.run("mailbox", "password", "alice@example.test", "--password-stdin", stdin=stdin)
    assert result.exit_code in (1, 2)


def test_an_unknown_hash_is_refused(alice: Island) -> None:
    result = alice.run("mailbox", "create", "carol@example.test", "--hash-stdin", stdin="{MD5}abc\n")
    assert result.exit_code == 1
    assert "{SHA512-CRYPT}" in result.stderr


def test_shared_mailboxes_have_no_password(alice: Island) -> None:
    made = alice.json("mailbox", "create", "sales@example.test", "--shared")
    assert made["password"] == ""
    assert alice.run("mailbox", "password", "sales@example.test").exit_code == 1


def test_aliases_and_catch_all(alice: Island) -> None:
    assert alice.run("alias", "create", "info@example.test", "alice@example.test").exit_code == 0
    assert alice.run("alias", "create", "info@example.test", "alice@example.test").exit_code == 1
    assert alice.json("alias", "list")["aliases"] == [{"alias": "info@example.test", "mailbox": "alice@example.test"}]
    assert alice.json("mailbox", "show", "alice@example.test")["aliases"] == ["info@example.test"]
    assert alice.run("alias", "remove", "alice@example.test").exit_code == 1  # the primary address
    assert alice.run("alias", "remove", "info@example.test").exit_code == 0
    assert alice.run("alias", "remove", "info@example.test").exit_code == 3
    assert alice.run("domain", "change", "example.test", "--catch-all", "alice@example.test").exit_code == 0
    assert alice.json("domain", "show", "example.test")["catch_all"] == "alice@example.test"


def test_app_passwords(alice: Island) -> None:
    made = alice.json("app-password", "create", "alice@example.test", "--name", "Scanner", "--protocol", "submit")
    listed = alice.json("app-password", "list", "alice@example.test")["app_passwords"]
    assert [(row["id"], row["name"], row["protocols"]) for row in listed] == [(made["id"], "Scanner", ["submit"])]
    assert made["password"] not in json.dumps(listed)
    assert alice.run("app-password", "remove", "alice@example.test", made["id"]).exit_code == 0
    assert alice.run("app-password", "remove", "alice@example.test", made["id"]).exit_code == 3
    assert alice.run("app-password", "remove", "alice@example.test", "junk!").exit_code == 3


def test_quotas_and_settings(alice: Island) -> None:
    assert alice.run("quota", "set", "alice@example.test").exit_code == 2
    assert alice.run("quota", "set", "alice@example.test", "--warn", "9.5G").exit_code == 0
    assert alice.run("quota", "set", "alice@example.test", "--receive", "10G").exit_code == 0
    shown = alice.json("quota", "show", "alice@example.test")
    assert shown["quota"] == {"warn": int(9.5 * (1 << 30)), "send": 0, "receive": 10 << 30}
    assert (shown["used"], shown["own"]) == (5000, True)
    assert alice.run("setting", "set", "quota-receive", "1000").exit_code == 0
    assert alice.run("quota", "set", "alice@example.test", "--default").exit_code == 0
    assert alice.json("quota", "show", "alice@example.test")["quota"]["receive"] == 1000
    assert alice.run("setting", "set", "quota-receive", "-1").exit_code == 2  # looks like an option
    assert alice.run("setting", "set", "quota-receive", "--", "-1").exit_code == 1
    assert alice.run("setting", "set", "colour", "red").exit_code == 1
    assert alice.run("setting", "set", "quota-receive", "1.5G").exit_code == 0
    assert alice.json("setting", "get", "quota-receive")["settings"][0]["value"] == str(3 << 29)
    assert "1.5G" in alice.run("setting", "get").stdout
    result = alice.run("setting", "set", "quota-receive", "much")
    assert (result.exit_code, result.stderr) == (1, "atoll: 'much' is not a size: 500M, 10G, none\n")
    result = alice.run("quota", "set", "alice@example.test", "--warn", "2G", "--send", "1G")
    assert result.exit_code == 1
    assert "a later step is not below an earlier one" in result.stderr
    assert alice.run("setting", "set", "quota-receive", "--default").exit_code == 0
    assert alice.json("setting", "get", "quota-receive")["settings"][0]["value"] is None


def test_groups(alice: Island) -> None:
    assert alice.run("group", "create", "team@example.test", "--display", "The team", "--member", "ALICE@example.test",
                     "--owner", "alice@example.test").exit_code == 0
    assert alice.run("group", "create", "alice@example.test").exit_code == 1  # taken
    assert alice.run("group", "create", "team@other.test").exit_code == 3  # no such domain
    assert alice.json("group", "add", "team@example.test", "bob@example.test", "friend@far.example",
                      "alice@example.test") == {"count": 2}
    assert alice.run("group", "add", "team@example.test", "no address").exit_code == 1
    assert alice.json("group", "add", "team@example.test", "bob@example.test", "--role", "sender") == {"count": 1}
    assert alice.run("group", "change", "team@example.test", "--who", "listed").exit_code == 0
    assert alice.json("group", "show", "Team@example.test") == {
        "address": "team@example.test", "display": "The team", "who": "listed",
        "members": ["alice@example.test", "bob@example.test", "friend@far.example"],
        "owners": ["alice@example.test"], "senders": ["bob@example.test"]}
    assert alice.json("group", "drop", "team@example.test", "friend@far.example", "x@y.example") == {"count": 1}
    assert [row["address"] for row in alice.json("group", "list")["groups"]] == ["team@example.test"]
    assert alice.json("group", "list", "--domain", "other.test")["groups"] == []
    assert alice.run("group", "remove", "team@example.test", "--yes").exit_code == 0
    assert alice.run("group", "show", "team@example.test").exit_code == 3
    assert alice.run("mailbox", "create", "team@example.test").exit_code == 0  # the name is free


def test_relayed_operations_reach_the_role_that_has_the_database(alice: Island) -> None:
    assert alice.run("database", "mount", "db2").exit_code == 0
    assert alice.run("database", "mount", "db9").exit_code == 3
    assert alice.run("database", "backup", "db1").exit_code == 4  # the role says: temporary
    assert alice.run("database", "check", "db1").exit_code == 1  # a problem that is not repaired
    assert alice.run("database", "check", "db1", "--repair").exit_code == 0
    assert alice.run("database", "rescan", "db2").exit_code == 4  # some are left: the content role is away
    assert alice.json("mailbox", "recoverable", "recover", "alice@example.test", "--all") == {"count": 3}
    assert alice.json("queue", "retry") == {"count": 3}
    assert [(role, op) for role, op, _ in alice.roles.asked] == [
        ("mailbox-2", "database.mount"), ("mailbox-1", "database.backup"), ("mailbox-1", "database.check"),
        ("mailbox-1", "database.check"), ("mailbox-2", "database.rescan"), ("mailbox-1", "mailbox.recover"),
        ("transport", "queue.retry")]


def test_sessions_are_asked_of_every_role_and_ended_by_id_or_person(alice: Island) -> None:
    sids = [row["sid"] for row in alice.json("session", "list", "alice@example.test")["sessions"]]
    assert sorted(sids) == ["sid-mailbox-1", "sid-mailbox-2", "sid-transport"]
    assert alice.run("session", "end", "sid-mailbox-2").exit_code == 0
    assert alice.run("session", "end", "sid-nothing").exit_code == 3
    assert alice.json("session", "end", "--address", "alice@example.test") == {"count": 3}


def test_text_from_mail_cannot_command_the_terminal(alice: Island) -> None:
    shown = alice.run("mailbox", "recoverable", "list", "alice@example.test")
    assert "subject" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert "\u202e" not in shown.stdout


def test_health_says_so_by_exit_code(island: Island) -> None:
    result = island.run("health")
    assert result.exit_code == 1
    assert "disk full" in result.stdout


def test_every_change_is_audited_without_secrets(alice: Island) -> None:
    alice.json("mailbox", "password", "alice@example.test", "--password-stdin", stdin="canary-secret\n")
    alice.run("mailbox", "create", "carol@example.test", "--hash-stdin", stdin="{SSHA}canary/secret\n")
    made = alice.json("app-password", "create", "alice@example.test", "--name", "x")
    log = alice.data / "dir" / "audit.log"
    events = list(audit.read(log))
    kinds = [(event["kind"], event["phase"]) for event in events if event["kind"].startswith("admin.")]
    assert ("admin.mailbox.password", "asked") in kinds
    assert ("admin.mailbox.password", "done") in kinds
    text = log.read_text()
    for secret in ("canary", "secret words", made["password"]):
        assert secret not in text
    assert alice.json("audit", "verify")["ok"]
    assert alice.json("audit", "list", "--kind", "admin.mailbox")["events"]


def test_audit_verify_finds_a_changed_event(alice: Island) -> None:
    log = alice.data / "dir" / "audit.log"
    log.write_bytes(log.read_bytes().replace(b"alice", b"mallo", 1))
    result = alice.run("audit", "verify")
    assert result.exit_code == 1
    assert "BROKEN" in result.stdout


def test_no_island_is_said_at_once(tmp_path: Path) -> None:
    result = Island(tmp_path).run("domain", "list")
    assert result.exit_code == 4
    assert "no island is running" in result.stderr


@pytest.mark.parametrize("noun", [noun for noun in NOUNS if noun not in ("import", "export", "config")])
def test_every_noun_has_help(noun: str, tmp_path: Path) -> None:
    result = Island(tmp_path).run(noun, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_the_shell_completes_nouns_and_verbs(tmp_path: Path) -> None:
    assert "_ATOLL_COMPLETE" in Island(tmp_path).run("completion", "bash").stdout


def completed(island: Island, *words: str) -> list[str]:
    """What bash is offered for the last word."""
    line = " ".join(["atoll", *words])
    done = subprocess.run(
        [sys.executable, "-c", "from atoll.admin.cli import main; main()"], capture_output=True, text=True, check=True,
        env={**os.environ, "_ATOLL_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words)),
             "ATOLL_DATA": str(island.data)})
    assert done.stderr == ""
    return [row.partition(",")[2] for row in done.stdout.splitlines() if row]


def test_the_shell_completes_names_of_the_island(alice: Island, tmp_path: Path) -> None:
    alice.run("alias", "create", "info@example.test", "alice@example.test")
    assert completed(alice, "quo") == ["quota"]
    assert completed(alice, "mailbox", "rem") == ["remove", "removed"]
    assert completed(alice, "mailbox", "show", "al") == ["alice@example.test"]
    assert completed(alice, "mailbox", "show", "zz") == []
    assert completed(alice, "alias", "remove", "in") == ["info@example.test"]
    assert completed(alice, "domain", "show", "ex") == ["example.test"]
    assert completed(alice, "database", "check", "db") == ["db1", "db2"]
    assert completed(alice, "setting", "set", "quota-w") == ["quota-warn"]
    assert completed(Island(tmp_path / "nothing"), "mailbox", "show", "al") == []  # no island: no noise


def verbs(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        ctx = click.Context(command)
        for name in command.list_commands(ctx):
            child = command.get_command(ctx, name)
            assert child is not None
            yield from verbs(child, f"{path} {name}")
    else:
        yield path, command


@pytest.mark.parametrize(("path", "command"), list(verbs(cli, "atoll")))
def test_every_verb_has_an_example_and_fits_its_list(path: str, command: click.Command) -> None:
    assert "Example" in (command.help or ""), path
    assert not command.get_short_help_str(62).endswith("..."), path  # what is left of 80 columns
    if not path.startswith(("atoll serve", "atoll completion")):
        assert {"--json", "--data"} <= {option for param in command.params for option in param.opts}, path


def test_mistyped_words_are_answered_with_what_was_meant(alice: Island) -> None:
    for words, meant in ((("mailboxes", "list"), "'mailbox'"), (("mailbox", "lst"), "'list'"), (("qota",), "'quota'")):
        result = alice.run(*words)
        assert result.exit_code == 2
        assert f"Did you mean {meant}?" in result.stderr
    result = alice.run("mailbox", "show", "alice")
    assert result.exit_code == 3
    assert "alice@example.test?" in result.stderr
    result = alice.run("mailbox", "create", "carol doe@example.test")
    assert result.exit_code == 1
    assert "no spaces" in result.stderr


def test_mailboxes_are_counted_before_their_first_use(alice: Island) -> None:
    alice.run("mailbox", "create", "bob@example.test")
    assert [(row["database"], row["mailboxes"]) for row in alice.json("database", "list")["databases"]] == [
        ("db1", 1), ("db2", 1)]


def test_removed_mailboxes(alice: Island) -> None:
    assert alice.run("mailbox", "remove", "alice@example.test", "--yes").exit_code == 0
    (row,) = alice.json("mailbox", "removed")["mailboxes"]
    assert (row["address"], row["display"]) == ("alice@example.test", "Alice Doe")
    assert completed(alice, "mailbox", "restore", "al") == ["alice@example.test"]
    assert alice.run("mailbox", "restore").exit_code == 2
    assert alice.run("mailbox", "restore", "--id", "junk!").exit_code == 3
    assert alice.json("mailbox", "restore", "--id", row["mailbox"]) == {"address": "alice@example.test"}
    assert alice.run("mailbox", "purge", "alice@example.test", "--yes").exit_code == 3  # not removed


def test_the_command_starts_quickly() -> None:
    started = time.monotonic()
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys\nfrom atoll.admin.cli import main\ntry: main(['mailbox', '--help'])\n"
         "except SystemExit: print('\\n'.join(sys.modules))"], capture_output=True, text=True, check=True).stdout
    assert time.monotonic() - started < 2  # 0.15 s alone; the tests share the machine
    heavy = {"rich", "apsw", "cryptography", "argon2", "uvloop", "atoll.directory.server", "atoll.mailbox"}
    assert not heavy & set(loaded.split())


def test_every_operation_has_a_caller_or_a_reason() -> None:
    source = "".join(path.read_text() for path in Path(ops.__file__).parent.joinpath("cli").glob("*.py"))
    asked = set(re.findall(r'(?:ask|tell)\(\s*"([a-z.-]+)"', source))
    assert asked <= set(ops.OPS)
    # usage is the directory's own question; a token is what import and export ask for
    assert set(ops.OPS) - asked <= {"mailbox.usage", "token.create"}


def test_audit_events_read_like_the_command(alice: Island) -> None:
    alice.run("mailbox", "create", "bob@example.test", "--display", "Bob B")
    shown = alice.run("audit", "list", "--kind", "admin.mailbox.create", "--limit", "1").stdout
    assert 'phase=done address=bob@example.test display="Bob B"\n' in shown
    assert "shared" not in shown
