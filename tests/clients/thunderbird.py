"""thunderbird(7): Thunderbird without a screen, driven over its Marionette port as its own windows would drive it.

In:    a profile folder, an account, the island's CA.
Out:   `Thunderbird`: what a person does (read, reply, file, delete), done by the program's own code; what it shows.
Fails: AssertionError with the program's own words; a script that does not answer within 60 s.
"""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.clients.mailsite import dies_with_us

PREFS = {
    "marionette.port": 0,
    "app.update.enabled": False,
    "datareporting.policy.dataSubmissionPolicyBypassNotification": True,
    "mail.provider.suppress_dialog_on_startup": True,
    "mail.shell.checkDefaultClient": False,
    "mail.spotlight.firstRunDone": True,
    "mail.winsearch.firstRunDone": True,
    "mail.compose.warn_public_recipients.threshold": 1000,
    "mail.warn_on_send_accel_key": False,
    "mailnews.start_page.enabled": False,
    "mail.server.default.check_new_mail": False,  # what it is told comes by IDLE, not by asking every ten minutes
    "mail.server.default.login_at_startup": True,
    "mail.inline_attachments": True,
    "network.dns.localDomains": "",
    "toolkit.telemetry.enabled": False,
}

PRELUDE = """
const {MailServices} = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const resolve = arguments[arguments.length - 1];
const sleep = ms => new Promise(done => setTimeout(done, ms));
const until = async (what, f) => {
  for (let i = 0; i < 250; i++) { const value = await f(); if (value) return value; await sleep(100); }
  throw new Error("not within 25 s: " + what);
};
const server = () => MailServices.accounts.allServers.find(s => s.type == "imap");
const main = () => Services.wm.getMostRecentWindow("mail:3pane");
const folder = path => {
  let found = server().rootFolder;
  for (const name of path.split("/")) {
    found = [...found.subFolders].find(f => f.name.toLowerCase() == name.toLowerCase());
    if (!found) return null;
  }
  return found;
};
const headers = f => [...f.messages];
const header = (f, subject) => headers(f).find(h => h.mime2DecodedSubject == subject);
const composer = () => Services.wm.getMostRecentWindow("msgcompose");
const listen = () => {
  let done;
  const promise = new Promise((yes, no) => { done = code => Components.isSuccessCode(code) ? yes() : no(code); });
  return [promise, { onStartCopy() {}, onProgress() {}, setMessageKey() {}, getMessageId() {}, onStartRunningUrl() {},
    onStopCopy: done, onStopRunningUrl: (url, code) => done(code),
    QueryInterface: ChromeUtils.generateQI(["nsIMsgCopyServiceListener", "nsIUrlListener"]) }];
};
"""


class Thunderbird:
    """`with Thunderbird(command, profile) as bird`."""

    def __init__(self, command: str, home: Path) -> None:
        self.command, self.home, self.profile = command, home, home / "profile"
        self.number = 0

    def __enter__(self) -> Thunderbird:
        self.profile.mkdir(parents=True)
        lines = [f"user_pref({json.dumps(key)}, {json.dumps(value)});" for key, value in PREFS.items()]
        (self.profile / "user.js").write_text("\n".join(lines) + "\n")
        self.log = (self.home / "thunderbird.log").open("wb")
        env = {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "LC_ALL": "C.UTF-8",
            "MOZ_HEADLESS": "1",
            "MOZ_LOG": "IMAP:4,sync",
            "MOZ_LOG_FILE": str(self.home / "imap"),
        }
        flags = [
            "--headless",
            "--marionette",
            "--remote-allow-system-access",
            "--no-remote",
            "--profile",
            str(self.profile),
        ]
        self.process = subprocess.Popen(
            [self.command, *flags],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
            preexec_fn=dies_with_us,
        )
        try:
            self._connect()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def _connect(self) -> None:
        mark, until = self.profile / "MarionetteActivePort", time.monotonic() + 60
        while not (mark.exists() and mark.read_text().strip()):
            assert self.process.poll() is None, (self.home / "thunderbird.log").read_text(errors="replace")[-3000:]
            assert time.monotonic() < until, "Thunderbird did not open its port"
            time.sleep(0.1)
        self.sock = socket.create_connection(("127.0.0.1", int(mark.read_text())), timeout=90)
        self.file = self.sock.makefile("rb")
        self._receive()
        self._ask("WebDriver:NewSession", capabilities={})
        self._ask("WebDriver:SetTimeouts", script=60_000)
        self._ask("Marionette:SetContext", value="chrome")
        self.js(
            """const ready = () => main()?.document.readyState == "complete" && main().gTabmail?.currentAbout3Pane;
            await until("a window", ready);"""
        )

    def _receive(self) -> Any:
        digits = b""
        while (byte := self.file.read(1)) != b":":
            assert byte, "Thunderbird has gone:\n" + (self.home / "thunderbird.log").read_text(errors="replace")[-3000:]
            digits += byte
        return json.loads(self.file.read(int(digits)))

    def _ask(self, name: str, **words: Any) -> Any:
        self.number += 1
        data = json.dumps([0, self.number, name, words]).encode()
        self.sock.sendall(b"%d:%s" % (len(data), data))
        _, _, error, result = self._receive()
        assert not error, f"{name}: {error}\n{self.said()}"
        return result

    def js(self, script: str, *args: Any) -> Any:
        """Run a script with the program's rights; `a` is the list of arguments; returns what it returns."""
        body = (
            PRELUDE + "const a = Array.from(arguments).slice(0, -1);"
            "(async () => {" + script + "})().then(v => resolve({ok: v === undefined ? null : v}),"
            " e => resolve({error: String(e) + ' ' + (e && e.stack || '')}));"
        )
        answer = self._ask("WebDriver:ExecuteAsyncScript", script=body, args=list(args), newSandbox=True)["value"]
        assert "error" not in answer, f"{answer['error']}\nin: {script}\n{self.said()}"
        return answer["ok"]

    def said(self) -> str:
        """The end of its IMAP log: the transcript that goes with a failure."""
        files = sorted(self.home.glob("imap*"), key=lambda path: path.stat().st_mtime)
        lines = files[-1].read_text(errors="replace").splitlines()[-80:] if files else []
        return "\n".join(re.sub(r"^.*?IMAP", "IMAP", line) for line in lines)

    # ---- what a person does

    def trust(self, ca: Path) -> None:
        der = base64.b64encode(
            b"".join(
                base64.b64decode(part)
                for part in re.findall(r"-----BEGIN CERTIFICATE-----(.*?)-----END", ca.read_text(), re.DOTALL)[:1]
            )
        ).decode()
        self.js(
            'Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB).addCertFromBase64(a[0], "C,,");', der
        )

    def set_up(self, address: str, password: str, imaps: int, submissions: int) -> None:
        """The account, as its assistant would make it."""
        self.js(
            """
            const [address, password, imaps, submissions] = a;
            const incoming = MailServices.accounts.createIncomingServer(address, "localhost", "imap");
            incoming.port = imaps; incoming.socketType = Ci.nsMsgSocketType.SSL;
            incoming.authMethod = Ci.nsMsgAuthMethod.passwordCleartext; incoming.password = password;
            const outgoing = MailServices.outgoingServer.createServer("smtp");
            const smtp = outgoing.QueryInterface(Ci.nsISmtpServer);
            smtp.hostname = "localhost"; smtp.port = submissions; outgoing.socketType = Ci.nsMsgSocketType.SSL;
            outgoing.authMethod = Ci.nsMsgAuthMethod.passwordCleartext;
            outgoing.username = address; outgoing.password = password;
            const identity = MailServices.accounts.createIdentity();
            identity.email = address; identity.fullName = "A Person"; identity.composeHtml = false;
            identity.smtpServerKey = outgoing.key;
            MailServices.accounts.createLocalMailAccount();
            const base = incoming.rootFolder.URI + "/";
            identity.fccFolderURI = base + "Sent"; identity.draftsFolderURI = base + "Drafts"; identity.doFcc = true;
            identity.fccFolderPickerMode = 0; identity.draftsFolderPickerMode = 0;
            const account = MailServices.accounts.createAccount();
            account.addIdentity(identity); account.incomingServer = incoming;
            MailServices.accounts.defaultAccount = account;
            incoming.performExpand(null);
            await until("the inbox", () => folder("INBOX"));
        """,
            address,
            password,
            imaps,
            submissions,
        )

    def open(self, path: str) -> None:
        """Click on a folder."""
        self.js(
            """
            const f = await until("folder " + a[0], () => folder(a[0]));
            main().gTabmail.currentAbout3Pane.displayFolder(f.URI);
            f.updateFolder(null);
        """,
            path,
        )

    def shown(self, path: str) -> list[str]:
        return sorted(
            self.js("const f = folder(a[0]); return f ? headers(f).map(h => h.mime2DecodedSubject) : [];", path)
        )

    def wait_for(self, path: str, subject: str) -> None:
        self.js('await until(a[1] + " in " + a[0], () => folder(a[0]) && header(folder(a[0]), a[1]));', path, subject)

    def compose(self, to: str, subject: str, body: str) -> None:
        self.js(
            """
            const made = (name, kind) => Cc["@mozilla.org/messengercompose/" + name + ";1"].createInstance(Ci[kind]);
            const fields = made("composefields", "nsIMsgCompFields");
            fields.to = a[0]; fields.subject = a[1]; fields.body = a[2];
            const params = made("composeparams", "nsIMsgComposeParams");
            params.composeFields = fields; params.type = Ci.nsIMsgCompType.New;
            params.format = Ci.nsIMsgCompFormat.PlainText;
            MailServices.compose.OpenComposeWindowWithParams(null, params);
            await until("the window", () => composer()?.gMsgCompose?.editor);
            await sleep(500);
        """,
            to,
            subject,
            body,
        )

    def reply(self, path: str, subject: str) -> None:
        """Open the reply to a message, in a window of its own."""
        self.js(
            """
            const h = header(folder(a[0]), a[1]);
            const identity = MailServices.accounts.defaultAccount.defaultIdentity;
            MailServices.compose.OpenComposeWindow(null, h, h.folder.getUriForMsg(h), Ci.nsIMsgCompType.ReplyToSender,
                Ci.nsIMsgCompFormat.PlainText, identity, null, null);
            const subject = () => composer().document.getElementById("msgSubject").value;
            await until("the window", () => composer()?.gMsgCompose?.editor && subject());
            await sleep(500);
        """,
            path,
            subject,
        )

    def press(self, command: str) -> None:
        """cmd_sendNow or cmd_saveAsDraft in the window that is open; waits until it is done."""
        self.js(
            """
            const window = composer();
            window.goDoCommand(a[0]);
            if (a[0] == "cmd_sendNow") await until("sent", () => !composer());
            else {
              await until("saved", () => !window.gSaveOperationInProgress && !window.gContentChanged);
              window.close();
            }
            await sleep(300);
        """,
            command,
        )

    def make_folder(self, name: str) -> None:
        self.js(
            'server().rootFolder.createSubfolder(a[0], null); await until("folder " + a[0], () => folder(a[0]));', name
        )

    def move(self, source: str, subject: str, target: str) -> None:
        self.js(
            """
            const from = folder(a[0]), [done, listener] = listen();
            MailServices.copy.copyMessages(from, [header(from, a[1])], folder(a[2]), true, listener, null, false);
            await done;
        """,
            source,
            subject,
            target,
        )

    def delete(self, path: str, subject: str) -> None:
        self.js(
            """
            const from = folder(a[0]), [done, listener] = listen();
            from.deleteMessages([header(from, a[1])], null, false, false, listener, false);
            await done;
        """,
            path,
            subject,
        )

    def mark(self, path: str, subject: str) -> None:
        """Star it and mark it read."""
        self.js(
            """
            const from = folder(a[0]), h = header(from, a[1]);
            from.markMessagesFlagged([h], true); from.markMessagesRead([h], true);
        """,
            path,
            subject,
        )

    def body(self, path: str, subject: str) -> str:
        """The plain text of a message, fetched and taken apart by the program."""
        return str(
            self.js(
                """
            const {MsgHdrToMimeMessage} = ChromeUtils.importESModule("resource:///modules/gloda/MimeMessage.sys.mjs");
            const h = header(folder(a[0]), a[1]);
            const text = message => message.coerceBodyToPlaintext(h.folder);
            return await new Promise(yes => MsgHdrToMimeMessage(h, null, (_, m) => yes(text(m)), true, {}));
        """,
                path,
                subject,
            )
        )
