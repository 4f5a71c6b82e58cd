"""The island's configuration: declared once, typed, frozen; a reload swaps the whole snapshot.

In     atoll.toml, then ATOLL_SECTION__KEY from the environment.
Out    Config.
Fails  ConfigError with the line and the nearest valid name: an unknown key or a wrong type stops the start.
Not    what the organization decides (domains, accounts, quotas): that is in the directory (ISLANDS 11.17).
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]


class ConfigError(Exception):
    """The file cannot be used; str() says where and what to write instead."""


class Island(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """This machine."""

    name: Annotated[str, Meta(description="The island's name in the organization")] = "island"
    host: Annotated[str, Meta(description="The host name that clients and other servers see")] = "localhost"


class Listen(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where clients connect."""

    address: Annotated[str, Meta(description="Address of the client ports; :: is every address")] = "127.0.0.1"
    port_offset: Annotated[int, Meta(ge=0, le=60000, description="Added to every standard port")] = 0
    health_address: Annotated[str, Meta(description="Address of /healthz and /metrics")] = "127.0.0.1"


class Processes(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many of each role."""

    frontends: Annotated[int, Meta(ge=1, le=64, description="Frontend processes")] = 1
    mailboxes: Annotated[int, Meta(ge=1, le=256, description="Mailbox processes")] = 2
    drain_seconds: Annotated[float, Meta(ge=0, description="How long sessions may go on while the island stops")] = 20.0
    restart_drain_seconds: Annotated[float, Meta(ge=0, description="How long sessions may go on in a frontend process "
                                                                   "that was replaced")] = 600.0
    single_process_as_root: Annotated[bool, Meta(description="Allow --single-process as root")] = False


class DatabaseAt(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A mailbox database and the process that mounts it."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$", description="Name of the database")]
    process: Annotated[int, Meta(ge=1, description="Number of the mailbox process that mounts it")]


class Smtp(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits of mail coming in."""

    message_bytes: Annotated[int, Meta(ge=65536, description="Largest message; announced by SIZE")] = 36 * 2**20
    recipients: Annotated[int, Meta(ge=100, description="Recipients of one message (RFC 5321 4.5.3.1.8)")] = 1000
    messages_per_connection: Annotated[int, Meta(ge=1, description="On one connection; announced by LIMITS")] = 10000
    messages_per_minute: Annotated[int, Meta(ge=0, description="Per client prefix on port 25, in all frontends; "
                                                               "0: none")] = 0
    recipients_per_hour: Annotated[int, Meta(ge=0, description="Per signed-in sender, in all frontends; 0: none")] = 0


class Sending(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Mail to other domains."""

    mode: Annotated[Literal["off", "direct", "smarthost"], Meta(
        description="off: refused; direct: to the servers that the DNS names; smarthost: all to one server")] = "off"
    smarthost: Annotated[str, Meta(description="host or host:port of the server that takes all mail")] = ""
    smarthost_user: Annotated[str, Meta(description="Name to sign in with at the smarthost; empty: no sign-in")] = ""
    smarthost_password_file: Annotated[str, Meta(description="File with the password for the smarthost")] = ""
    name_servers: Annotated[tuple[str, ...], Meta(description="address or address:port of name servers; none: those "
                                                              "of this machine")] = ()
    port: Annotated[int, Meta(ge=1, le=65535, description="Port of the servers that the DNS names")] = 25
    allowed_networks: Annotated[tuple[str, ...], Meta(description="Networks that may be connected to although they "
                                                                  "are not public")] = ()


class Checks(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Is mail from strangers from whom it says? Not checked while sending.mode is off: no name server is asked."""

    mode: Annotated[Literal["enforce", "note", "off"], Meta(
        description="enforce: do what the DMARC policy of the author's domain asks; note: write Authentication-Results "
                    "only; off: check nothing")] = "enforce"
    trusted_networks: Annotated[tuple[str, ...], Meta(description="Networks whose mail is not checked")] = (
        "127.0.0.0/8", "::1/128")
    trusted_sealers: Annotated[tuple[str, ...], Meta(description="Domains whose ARC seals are believed: mailing lists, "
                                                                 "forwarders")] = ()

    @property
    def networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        """trusted_networks, parsed."""
        return tuple(ipaddress.ip_network(one, strict=False) for one in self.trusted_networks)


class Imap(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits of IMAP."""

    append_bytes: Annotated[int, Meta(ge=65536, description="Largest APPEND; announced by APPENDLIMIT")] = 64 * 2**20
    idle_seconds: Annotated[Seconds, Meta(description="Silence after which a session ends (at least 1800)")] = 1800.0
    show_recoverable: Annotated[bool, Meta(description="List the Recoverable Items folder to its owner")] = False


class Admission(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one client prefix may hold before sign-in, in each frontend process (PROCESSES 9)."""

    open_unauthenticated: Annotated[Count, Meta(description="Connections not signed in, per prefix")] = 50
    new_per_second: Annotated[Count, Meta(description="New connections a second, per prefix")] = 20
    burst: Annotated[Count, Meta(description="New connections at once, per prefix")] = 100
    trusted: Annotated[tuple[str, ...], Meta(description="Networks that these limits do not count")] = ()


class Store(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The mailbox databases."""

    recoverable_days: Annotated[int, Meta(ge=0, description="Days that deleted items can be got back")] = 14
    removed_days: Annotated[int, Meta(ge=0, description="Days that a removed mailbox can be restored")] = 30


class Log(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is logged."""

    level: Annotated[str, Meta(pattern="^(debug|info|warning|error)$", description="debug info warning error")] = "info"
    text: Annotated[bool, Meta(description="Readable lines instead of JSON")] = False


class RunAs(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """System users of the roles when started as root; empty: all share one uid."""

    frontend: Annotated[str, Meta(description="User of the frontend role: a name, or uid:gid")] = "atoll-front"
    directory: Annotated[str, Meta(description="User of the directory role: a name, or uid:gid")] = "atoll-dir"
    transport: Annotated[str, Meta(description="User of the transport role: a name, or uid:gid")] = "atoll-transport"
    mailbox: Annotated[str, Meta(description="User of the mailbox role: a name, or uid:gid")] = "atoll-mailbox"
    content: Annotated[str, Meta(description="User of the content role: a name, or uid:gid")] = "atoll-content"


class DemoAccount(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An account that the directory makes when it is empty (demo only; never in the file)."""

    address: str
    password: str
    database: str
    role: str = "user"


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One island's settings."""

    island: Island = Island()
    listen: Listen = Listen()
    processes: Processes = Processes()
    databases: tuple[DatabaseAt, ...] = (DatabaseAt(name="db1", process=1), DatabaseAt(name="db2", process=2))
    smtp: Smtp = Smtp()
    sending: Sending = Sending()
    checks: Checks = Checks()
    imap: Imap = Imap()
    admission: Admission = Admission()
    store: Store = Store()
    log: Log = Log()
    run_as: RunAs = RunAs()
    demo: tuple[DemoAccount, ...] = ()


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """The configuration of a file (which may be absent) and the environment."""
    try:
        text = path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        text = ""
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    return parse(text, environ, name=str(path))


def parse(text: str, environ: Mapping[str, str], *, name: str = "atoll.toml") -> Config:
    """The configuration of a text and the environment."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: {error}") from None
    if "demo" in table:
        raise ConfigError(f"{name}: unknown key `demo`")
    variables = {}
    for key, value in environ.items():
        if key.startswith("ATOLL_") and "__" in key:
            section, _, leaf = key[6:].lower().partition("__")
            table.setdefault(section, {})[leaf] = _typed(value)
            variables[f"{section}.{leaf}"] = key
    try:
        config = msgspec.convert(table, Config)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        if where.rstrip("`") in variables:
            raise ConfigError(f"{variables[where.rstrip('`')]}: {what}") from None
        raise ConfigError(f"{name}: {_explain(str(error), text)}") from None
    _check_networks(config, name)
    if config.sending.mode == "smarthost" and not config.sending.smarthost:
        raise ConfigError(f"{name}: sending.mode is smarthost, but sending.smarthost names none")
    names = [database.name for database in config.databases]
    for database in config.databases:
        if names.count(database.name) > 1:
            raise ConfigError(f"{name}: there are two databases {database.name}")
        if database.process > config.processes.mailboxes:
            raise ConfigError(f"{name}: database {database.name} is given to mailbox process {database.process}, "
                              f"but processes.mailboxes is {config.processes.mailboxes}")
    return config


def _check_networks(config: Config, name: str) -> None:
    for key, networks, strict in (("admission.trusted", config.admission.trusted, True),
                                  ("checks.trusted_networks", config.checks.trusted_networks, False)):
        for network in networks:
            try:
                ipaddress.ip_network(network, strict=strict)
            except ValueError as error:
                raise ConfigError(f"{name}: {key}: {error}") from None


def _typed(value: str) -> Any:
    try:
        return tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        return value


def _explain(message: str, text: str) -> str:
    found = re.search(r"unknown field `([^`]+)`(?: - at `\$\.?([^`]*)`)?", message)
    if found is None:
        return message
    key, section = found.group(1), (found.group(2) or "").split("[")[0]
    shape: Any = Config
    if section:
        shape = next((field.type for field in msgspec.structs.fields(Config) if field.name == section), Config)
    names = [field.name for field in msgspec.structs.fields(shape)] if isinstance(shape, type) else []
    near = difflib.get_close_matches(key, names, 1)
    line = next((number for number, row in enumerate(text.splitlines(), 1)
                 if re.match(rf"\s*\[?{re.escape(key)}\b", row)), 0)
    where = f"line {line}: " if line else ""
    hint = f"; did you mean `{near[0]}`?" if near else ""
    return f"{where}unknown key `{key}`{f' in [{section}]' if section else ''}{hint}"
