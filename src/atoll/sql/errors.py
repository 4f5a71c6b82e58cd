"""What a database can fail with.

    SqlError
      Broken        the file or the connection is unusable: corrupt, unreadable, gone
      Full          no space; the transaction was rolled back
      ReadOnly      the disk takes no writes; the same
      Locked        another connection holds the write lock for too long
      Fenced        another process has become the owner: unmount and end
      InDoubt       COMMIT did not say yes: unmount, mount again, ask by key
      SchemaError   made by a version that this one may not touch
      Unsupported   this engine does not do that
"""

from __future__ import annotations


class SqlError(Exception):
    """A database refused or failed."""


class Broken(SqlError):
    """Unusable: corrupt, unreadable or disconnected."""


class Full(SqlError):
    """No space left."""


class ReadOnly(SqlError):
    """The disk takes no writes any more: the system has made it read-only."""


class Locked(SqlError):
    """The write lock could not be had in time."""


class Fenced(SqlError):
    """The owner epoch is no longer ours (ISLANDS 4)."""


class InDoubt(SqlError):
    """A COMMIT that neither succeeded nor is known to have failed (ISLANDS 11.6)."""


class Unsupported(SqlError):
    """Not with this engine: the server's own tools do it."""


class SchemaError(SqlError):
    """The schema's min_reader or min_writer is above our number, or a migration's checks failed."""
