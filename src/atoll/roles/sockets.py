"""Every listener of an island, and whose rights a role runs with (PROCESSES 3, 10).

In     the configuration, DATA, whether we are root.
Out    Sockets: the bound listeners of each role; directories that only the connecting roles' groups can enter.
Fails  BindError.
Not    who may speak on a socket once connected: each role checks the peer's pid itself.
"""

from __future__ import annotations

import grp
import pwd
import socket
from pathlib import Path

from atoll.base.config import Config
from atoll.roles import CLIENT_PORTS, HEALTH_PORT, Instance, instances
from atoll.runtime import notify
from atoll.runtime.child import Identity
from atoll.runtime.paths import RunPaths
from atoll.runtime.sockets import Passed, bind_tcp, bind_unix, make_directory

ENTER = {"front-dir": ("frontend",), "back-dir": ("mailbox", "transport"), "front-trans": ("frontend",),
         "trans-mbox": ("transport",), "front-mbox": ("frontend",), "mbox-mbox": ("mailbox",),
         "dir-op": ("directory",), "mbox-content": ("mailbox",)}
"""Directory under run/ -> the roles that may connect to the sockets in it."""
BACK_GROUP = "atoll-back"
"""Both roles that enter back-dir are in it: a directory has one group only."""


class Sockets:
    """The island's listeners, open as long as the supervisor lives."""

    def __init__(self, data: Path, config: Config, root: bool) -> None:
        self.paths = RunPaths(data)
        self.data = data
        self.identities = find_identities(config) if root else {}
        self._client: dict[str, socket.socket] = {}
        self._inside: dict[tuple[str, str], socket.socket] = {}
        self.ports: dict[str, int] = {}
        """Service -> TCP port."""
        self.health: socket.socket
        self.op: socket.socket

    def of(self, instance: Instance) -> dict[str, socket.socket]:
        """The listeners that a role serves, by name."""
        if instance.role.clients:
            return {name: self._client[name] for name in instance.role.listeners}
        return {name: self._inside[instance.name, name] for name in instance.role.listeners}

    def identity(self, instance: Instance) -> Identity | None:
        """The system user of a role; None: ours."""
        return self.identities.get(instance.role.kind)

    def path(self, instance: Instance, listener: str) -> Path:
        """Where a listener's socket is."""
        paths, number = self.paths, instance.number
        return {
            "signin": lambda: paths.signin, "backend": lambda: paths.backend, "admin": lambda: paths.admin,
            "content": lambda: paths.content, "smtp-in": lambda: paths.smtp_in, "submit": lambda: paths.submit,
            "imap": lambda: paths.imap(number), "pop": lambda: paths.pop(number), "lmtp": lambda: paths.lmtp(number),
            "mbox-imap": lambda: paths.mbox_imap(number), "op": lambda: paths.op(instance.name),
        }[listener]()

    def bind(self, config: Config, passed: Passed, patience: float = 0.0) -> None:
        """Make the directories and listen everywhere; where a service manager listens for us already, take that."""
        self._directories()
        offset = config.listen.port_offset
        self.ports = {name: port + offset for name, port in (*CLIENT_PORTS.items(), ("health", HEALTH_PORT))}
        listen = config.listen
        for name in CLIENT_PORTS:
            self._client[name] = self._tcp(name, listen.address, passed, patience)
        self.health = self._tcp("health", listen.health_address, passed, patience)
        for name in passed.close():
            notify.drop(name)
        shared = bool(self.identities)
        for instance in instances(config):
            for name in instance.role.listeners if not instance.role.clients else ():
                # Whoever may enter the directory may connect; admin.sock lies in run/ itself, open to no one else.
                mode = 0o666 if shared and name != "admin" else 0o600
                self._inside[instance.name, name] = bind_unix(self.path(instance, name), mode)
        self.op = bind_unix(self.paths.op("supervisor"), 0o666 if shared else 0o600)

    def _tcp(self, name: str, address: str, passed: Passed, patience: float) -> socket.socket:
        port = self.ports[name]
        sock = passed.take(address, port) or bind_tcp(name, address, port, patience)
        notify.store(name, sock)
        return sock

    def _directories(self) -> None:
        run = self.paths.run
        make_directory(self.data, 0o711 if self.identities else 0o700)
        make_directory(run, 0o711)
        for name, kinds in ENTER.items():
            if not self.identities:
                make_directory(run / name, 0o700)
                continue
            gid = self.identities[kinds[0]].gid if len(kinds) == 1 else _group(BACK_GROUP)
            # Without the group of two roles the directory is open to enter; the pid check of the role behind stays.
            make_directory(run / name, 0o710 if gid is not None else 0o711, uid=0, gid=0 if gid is None else gid)

    def folders(self, config: Config) -> None:
        """Each role's own directory, with its owner."""
        for instance in instances(config):
            folder = instance.folder(self.data)
            if folder is None:
                continue
            who = self.identity(instance)
            if instance.number:
                make_directory(folder.parent, 0o711 if who else 0o700)
            make_directory(folder, 0o700, uid=who.uid if who else -1, gid=who.gid if who else -1)


def find_identities(config: Config) -> dict[str, Identity]:
    """Role kind -> its system user. All or none: {} when one of them does not exist."""
    back = _group(BACK_GROUP)
    found = {}
    for kind in ("frontend", "directory", "transport", "mailbox", "content"):
        identity = _user(getattr(config.run_as, kind))
        if identity is None:
            return {}
        groups = (back,) if back is not None and kind in ENTER["back-dir"] else ()
        found[kind] = Identity(*identity, groups)
    return found


def _user(name: str) -> tuple[int, int] | None:
    """(uid, gid) of a user's name, or of "uid" or "uid:gid" in numbers."""
    uid, _, gid = name.partition(":")
    if uid.isascii() and uid.isdigit():
        return (int(uid), int(gid or uid)) if int(uid) > 0 else None
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return entry.pw_uid, entry.pw_gid


def _group(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None

