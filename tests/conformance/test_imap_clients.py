"""What mail programs say, in their order: transcripts of their first minutes and of their daily work.

Each test is one program: what it sends (and how it frames it) is what matters, not what it is called.
"""

from __future__ import annotations

import base64

import pytest

from tests.conformance.conftest import World
from tests.conformance.imap import Imap, numbers, pairs, text

pytestmark = pytest.mark.island

MAIL = (b"From: Alice <alice@example.test>\r\nTo: bob@example.test\r\nSubject: hello\r\nDate: Mon, 3 Aug 2026 10:00:00 +0200\r\n"
        b"Message-ID: <%d@client.example>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nplain\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>html</p>\r\n"
        b"--b--\r\n")


@pytest.fixture
def login(world: World) -> tuple[str, str]:
    """A person with three messages."""
    account = world.account("client")
    client = world.imap(account)
    for number in range(3):
        client.append("INBOX", MAIL % number)
    return account


def idle(client: Imap) -> str:
    tag = client.start("IDLE")
    assert client.plus().startswith("+")
    return tag


def done(client: Imap, tag: str) -> None:
    client.wire.send(b"DONE\r\n")
    assert client.until(tag).status == "OK"


def test_apple_mail(world: World, login: tuple[str, str]) -> None:
    client = world.imap()
    client.ok("CAPABILITY")
    secret = base64.b64encode(f"\0{login[0]}\0{login[1]}".encode()).decode()
    tag = client.start("AUTHENTICATE PLAIN")
    client.plus()
    client.wire.send(secret.encode() + b"\r\n")
    assert client.until(tag).status == "OK"
    client.ok("CAPABILITY")
    client.ok('ID ("name" "Mac OS X Mail" "version" "16.0 (3731.600.7)" "os" "Mac OS X" "os-version" "13.5 (22G74)" '
              '"vendor" "Apple Inc.")')
    client.ok("ENABLE CONDSTORE")
    assert 'Other Users/' in str(client.ok("NAMESPACE").one("NAMESPACE").values)
    client.ok('LIST "" ""')
    client.ok('LIST "" "*" RETURN (SPECIAL-USE)')
    tags = [client.start(f'STATUS "{box}" (MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ)')
            for box in ("INBOX", "Drafts", "Sent", "Junk", "Trash", "Archive")]
    for one in tags:
        assert client.until(one).one("STATUS")
    selected = client.ok("SELECT INBOX (CONDSTORE)")
    assert selected.numbers("EXISTS") == [3]
    found = client.ok("FETCH 1:3 (FLAGS UID MODSEQ)").by_uid()
    assert sorted(found) == [1, 2, 3]
    items = client.ok("UID FETCH 1:3 (INTERNALDATE UID RFC822.SIZE FLAGS MODSEQ BODY.PEEK[HEADER.FIELDS (date subject from to "
                      "cc message-id in-reply-to references content-type x-priority x-uniform-type-identifier "
                      "x-universally-unique-identifier list-id list-unsubscribe bimi-indicator bimi-location "
                      "x-bimi-indicator-hash authentication-results dkim-signature)])").by_uid()
    header = next(value for name, value in items[1].items() if name.startswith("BODY[HEADER.FIELDS (date"))
    assert b"Subject: hello" in header
    structure = client.ok("UID FETCH 1 (BODYSTRUCTURE BODY.PEEK[HEADER])").by_uid()[1]
    assert structure["BODYSTRUCTURE"][2].lower() == b"alternative"
    parts = client.ok("UID FETCH 1 (BODY.PEEK[1.MIME] BODY.PEEK[1] BODY.PEEK[2.MIME] BODY.PEEK[2])").by_uid()[1]
    assert parts["BODY[1]"] == b"plain"
    client.ok("UID STORE 1 +FLAGS.SILENT (\\Seen)")
    client.ok("UID STORE 2 +FLAGS.SILENT ($NotJunk $MailFlagBit0 \\Flagged)")
    tag = idle(client)
    done(client, tag)
    client.ok('UID COPY 3 "Trash"')
    client.ok("UID STORE 3 +FLAGS.SILENT (\\Deleted)")
    client.ok("UID EXPUNGE 3")
    client.ok("CHECK")
    client.ok("CLOSE")
    client.ok("LOGOUT")


def test_ios_mail(world: World, login: tuple[str, str]) -> None:
    client = world.imap()
    client.wire.send(f'1 LOGIN "{login[0]}" "{login[1]}"\r\n'.encode())
    assert client.until("1").has_code("CAPABILITY")
    client.ok('ID ("name" "com.apple.email.maild" "version" "3774.300.61.2.2" "os" "iOS" "os-version" "17.5")')
    client.ok('LIST "" "*"')
    selected = client.ok("SELECT INBOX")
    top = selected.code_of("HIGHESTMODSEQ")
    client.ok("UID SEARCH 1:* NOT DELETED")
    client.ok("UID SEARCH RETURN (ALL) UID 1:* UNDELETED")
    tag = idle(client)
    world.imap(login).append("INBOX", MAIL % 9)
    assert client.told(1)[0].number == 4
    client.told(1)
    done(client, tag)
    found = client.ok(f"UID FETCH 1:* (UID FLAGS) (CHANGEDSINCE {top})").by_uid()
    assert sorted(found) == [4]
    assert "MODSEQ" in found[4]
    client.ok("UID FETCH 4 (BODY.PEEK[HEADER.FIELDS (CONTENT-TYPE)] BODY.PEEK[]<0.131072>)")
    client.ok('UID MOVE 4 "Archive"')
    assert client.uids() == [1, 2, 3]


def test_outlook(world: World, login: tuple[str, str]) -> None:
    """Synchronizing literals, one command at a time, LSUB before LIST, RFC822 items."""
    client = world.imap()
    client.ok("CAPABILITY")
    assert client.sync("LOGIN ", login[0].encode(), " ", login[1].encode()).status == "OK"
    client.ok("CAPABILITY")
    client.ok('ID ("name" "Microsoft Outlook" "version" "16.0" "vendor" "Microsoft")')
    client.ok('LIST "" ""')
    client.ok('LSUB "" "*"')
    client.ok('LIST "" "*"')
    client.ok('LIST "" INBOX')
    client.ok('SUBSCRIBE "INBOX"')
    assert client.no('CREATE "INBOX"').status == "NO"
    client.ok('CREATE "Deleted Items"')
    client.ok('SUBSCRIBE "Deleted Items"')
    client.ok('STATUS "INBOX" (UNSEEN)')
    client.ok('STATUS "INBOX" (MESSAGES UNSEEN UIDVALIDITY UIDNEXT)')
    client.ok('SELECT "INBOX"')
    client.ok("UID FETCH 1:* (UID FLAGS)")
    items = client.ok("UID FETCH 1:3 (UID FLAGS RFC822.SIZE BODY.PEEK[HEADER.FIELDS (Date From To Cc Subject Message-ID "
                      "Importance X-Priority References In-Reply-To Content-Type)] INTERNALDATE)").by_uid()
    assert sorted(items) == [1, 2, 3]
    client.ok("UID FETCH 1 (BODY.PEEK[] UID)")
    client.ok("UID STORE 1 +FLAGS (\\Seen)")
    client.ok("UID STORE 1 FLAGS.SILENT (\\Seen \\Flagged)")
    client.ok('UID COPY 2 "Deleted Items"')
    client.ok("UID STORE 2 +FLAGS (\\Seen \\Deleted)")
    client.ok("EXPUNGE")
    assert client.sync('APPEND "Sent" (\\Seen) "24-Nov-2026 10:00:00 +0100" ', MAIL % 5).has_code("APPENDUID")
    client.ok("NOOP")
    client.ok("CHECK")
    client.ok('SELECT "Sent"')
    client.ok("UID SEARCH 1:* UNDELETED")
    client.ok("LOGOUT")


def test_thunderbird(world: World, login: tuple[str, str]) -> None:
    client = world.imap()
    secret = base64.b64encode(f"\0{login[0]}\0{login[1]}".encode()).decode()
    client.ok(f"authenticate PLAIN {secret}")
    client.ok("CAPABILITY")
    client.ok('ID ("name" "Thunderbird" "version" "128.4.3")')
    client.ok("ENABLE UTF8=ACCEPT")
    client.ok("namespace")
    client.ok('lsub "" "*"')
    client.ok('list "" "INBOX"')
    subscribed = client.ok('list (subscribed) "" "*" return (special-use)').boxes()
    assert isinstance(subscribed, dict)
    client.ok('list "" "%" return (special-use)')
    client.ok('list "" "%/%"')
    client.ok('list "" "Trash"')
    client.cmd('create "Trash"')
    client.ok('subscribe "Trash"')
    selected = client.ok('select "INBOX" (CONDSTORE)')
    assert selected.has_code("HIGHESTMODSEQ")
    client.ok('getquotaroot "INBOX"')
    client.ok('getacl "INBOX"')
    client.ok('myrights "INBOX"')
    assert sorted(client.ok("UID fetch 1:* (FLAGS)").by_uid()) == [1, 2, 3]
    fetched = client.ok("UID fetch 1:3 (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date Message-ID "
                        "Priority X-Priority References Newsgroups In-Reply-To Content-Type Reply-To)])").by_uid()
    assert sorted(fetched) == [1, 2, 3]
    client.ok("UID fetch 1 (UID RFC822.SIZE BODY.PEEK[])")
    client.ok("UID fetch 2 (BODYSTRUCTURE)")
    client.ok("UID fetch 2 (BODY[HEADER] BODY[1.MIME] BODY[2.MIME])")
    client.ok("UID store 1 +Flags (\\Seen)")
    client.ok("uid store 1 +FLAGS (NonJunk)")
    client.ok('uid copy 2 "Trash"')
    client.ok("uid store 2 +FLAGS (\\Deleted \\Seen)")
    tag = idle(client)
    done(client, tag)
    client.ok('STATUS "Trash" (UIDNEXT MESSAGES UNSEEN RECENT)')
    client.ok('create "Trash/sub folder"')
    client.ok('rename "Trash/sub folder" "Trash/renamed"')
    client.ok('delete "Trash/renamed"')
    client.ok("close")
    client.ok("logout")


def test_k9(world: World, login: tuple[str, str]) -> None:
    client = world.imap()
    client.ok("CAPABILITY")
    secret = base64.b64encode(f"\0{login[0]}\0{login[1]}".encode()).decode()
    tag = client.start("AUTHENTICATE PLAIN")
    client.plus()
    client.wire.send(secret.encode() + b"\r\n")
    client.until(tag)
    client.ok("CAPABILITY")
    client.ok("NAMESPACE")
    client.ok('LIST "" "*" RETURN (SPECIAL-USE)')
    client.ok('LIST (SUBSCRIBED) "" "*"')
    client.ok('STATUS "INBOX" (RECENT)')
    client.ok('SELECT "INBOX"')
    assert client.ok("UID SEARCH 1:3 NOT DELETED").search() == [1, 2, 3]
    assert client.ok("UID SEARCH 1:3 SINCE 1-Jan-2020 NOT DELETED").search() == [1, 2, 3]
    assert client.ok('UID SEARCH HEADER MESSAGE-ID "<1@client.example>"').search() == [2]
    client.ok("UID SEARCH 2:3 UNSEEN NOT DELETED")
    client.ok("UID FETCH 1,2,3 (UID FLAGS)")
    client.ok("UID FETCH 1,2,3 (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS (date subject from content-type to "
              "cc reply-to message-id references in-reply-to list-unsubscribe X-K9mail-Identity Chat-Version)])")
    client.ok("UID FETCH 1 (UID BODYSTRUCTURE)")
    client.ok("UID FETCH 1 (UID BODY.PEEK[]<0.32768>)")
    client.ok("UID FETCH 1 (UID BODY.PEEK[1])")
    client.no('STATUS "K9-Outbox" (RECENT)')
    client.ok('CREATE "K9-Outbox"')
    client.ok("UID STORE 1 +FLAGS.SILENT (\\Seen)")
    client.ok('UID COPY 1 "Trash"')
    client.ok("UID STORE 1 +FLAGS.SILENT (\\Deleted)")
    client.ok("UID EXPUNGE 1")
    tag = idle(client)
    done(client, tag)


def test_evolution_and_offlineimap(world: World, login: tuple[str, str]) -> None:
    """QRESYNC at work, LIST-STATUS for all folders, long UID lists."""
    client = world.imap(login)
    client.ok("ENABLE CONDSTORE QRESYNC")
    client.ok('LIST "" "*" RETURN (CHILDREN SUBSCRIBED STATUS (UIDVALIDITY UIDNEXT MESSAGES UNSEEN HIGHESTMODSEQ))')
    selected = client.select("INBOX")
    known = ",".join(map(str, client.uids()))
    again = client.select("INBOX", f' (QRESYNC ({selected.code_of("UIDVALIDITY")} {selected.code_of("HIGHESTMODSEQ")} {known}))')
    assert again.all("VANISHED") == []
    assert again.all("FETCH") == []
    client.ok("UID FETCH 1:* (UID FLAGS)")
    client.ok("UID FETCH 2 (RFC822.SIZE RFC822.HEADER FLAGS)")
    client.ok("UID STORE 2 FLAGS.SILENT (\\Answered \\Seen $MDNSent Junk)")


def test_mbsync(world: World, login: tuple[str, str]) -> None:
    """Everything pipelined, APPENDs with LITERAL+, X-TUID searches."""
    client = world.imap(login)
    tags = [client.start('LIST "" "*"'), client.start("SELECT INBOX"), client.start("UID FETCH 1:2147483647 (UID FLAGS)"),
            client.start("UID FETCH 1 (UID BODY.PEEK[])"), client.start("UID FETCH 2 (UID BODY.PEEK[])"),
            client.start("UID STORE 1 +FLAGS.SILENT (\\Seen)"), client.start("UID STORE 2 +FLAGS.SILENT (\\Deleted)")]
    replies = [client.until(tag) for tag in tags]
    assert all(reply.status == "OK" for reply in replies)
    assert sorted(replies[2].by_uid()) == [1, 2, 3]
    tuid = b"X-TUID: Zr7Wd2cTGvUb\r\n"
    tags = [client.start("APPEND Sent (\\Seen) ", tuid + MAIL % number) for number in range(20)]
    uids = [int(client.until(tag).code_of("APPENDUID").split()[1]) for tag in tags]
    assert uids == sorted(uids)
    client.select("Sent")
    assert len(client.ok("UID SEARCH HEADER X-TUID Zr7Wd2cTGvUb").search()) == 20
    client.ok("CLOSE")


def test_python_imaplib_and_php_habits(world: World, login: tuple[str, str]) -> None:
    """Odd but common: FETCH with a list of one, quoted numbers of nothing, RFC822.HEADER, SEARCH NEW, UID lists with spaces."""
    client = world.imap(login)
    client.ok("SELECT INBOX")
    client.ok("FETCH 1 (RFC822)")
    client.ok('FETCH 1 (BODY[HEADER.FIELDS (SUBJECT FROM)])')
    client.ok("SEARCH CHARSET UTF-8 UNSEEN")
    client.ok('SEARCH SINCE 01-Jan-2020 BEFORE 01-Jan-2030')
    client.ok("SEARCH ALL UNDELETED")
    client.ok('SEARCH (FROM "alice")')
    client.ok('SEARCH SUBJECT "hello" FROM "alice"')
    client.ok('SEARCH UNSEEN SUBJECT hello')
    client.ok("STORE 1 +FLAGS \\Deleted")
    client.ok("STORE 1 -FLAGS \\Deleted")
    client.ok("SORT (REVERSE DATE) UTF-8 ALL")
    client.ok("THREAD REFERENCES UTF-8 ALL")
    client.ok('STATUS "INBOX" (MESSAGES RECENT UNSEEN UIDNEXT UIDVALIDITY)')
    client.ok('LIST "" "INBOX*"')
    client.ok('LIST "INBOX" "*"')
    client.ok("FETCH 1:3 (UID ENVELOPE FLAGS INTERNALDATE RFC822.SIZE BODYSTRUCTURE)")
    client.ok("EXPUNGE")


def test_gmail_style_and_roundcube(world: World, login: tuple[str, str]) -> None:
    client = world.imap(login)
    client.ok('ID ("name" "Roundcube Webmail" "version" "1.6.6" "php" "8.2.7" "os" "Linux" "command" "/?_task=mail")')
    client.ok("NAMESPACE")
    client.ok('LIST (SUBSCRIBED) "" "*" RETURN (SPECIAL-USE)')
    client.ok('LIST "" "*" RETURN (SUBSCRIBED)')
    client.ok("SELECT INBOX")
    result = client.ok("UID SORT RETURN (ALL COUNT) (REVERSE ARRIVAL) UTF-8 ALL UNDELETED").esearch()
    assert result["COUNT"] == "3"
    assert sorted(numbers(result["ALL"])) == [1, 2, 3]
    client.ok("UID THREAD REFERENCES US-ASCII ALL UNDELETED")
    client.ok("SEARCH RETURN (ALL COUNT) ALL UNDELETED")
    reply = client.ok("UID FETCH 1:3 (UID RFC822.SIZE FLAGS INTERNALDATE BODYSTRUCTURE BODY.PEEK[HEADER.FIELDS (DATE FROM TO "
                      "SUBJECT CONTENT-TYPE CC REPLY-TO LIST-POST DISPOSITION-NOTIFICATION-TO X-PRIORITY)])")
    assert len(reply.by_uid()) == 3
    client.ok("UID FETCH 1 (BODY.PEEK[1.MIME])")
    client.ok("GETQUOTAROOT INBOX")
    client.ok('UID FETCH 1 (BINARY.PEEK[1]<0.1024>)')
    names = {text(one.values[2]) for one in client.ok('LIST "" "%"').all("LIST")}
    assert "INBOX" in names
    assert pairs(["A", "1"]) == {"A": "1"}
