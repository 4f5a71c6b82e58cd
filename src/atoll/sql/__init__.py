"""One thin door to SQLite and PostgreSQL: connect, migrate, own, commit in groups."""

from atoll.sql.engine import Connection, Database, Engine, Fragment, Lost, Reads, Salvaged
from atoll.sql.errors import Broken, Fenced, Full, InDoubt, ReadOnly, SchemaError, SqlError, Unsupported
from atoll.sql.group import Context, GroupWriter
from atoll.sql.lane import Lane
from atoll.sql.migrate import Schema, migrate, version_of
from atoll.sql.owner import Epochs, Fence, LateFence, take_ownership

__all__ = ["Broken", "Connection", "Context", "Database", "Engine", "Epochs", "Fence", "Fenced", "Fragment", "Full",
           "GroupWriter", "InDoubt", "Lane", "LateFence", "Lost", "ReadOnly", "Reads", "Salvaged", "Schema",
           "SchemaError", "SqlError", "Unsupported", "migrate", "take_ownership", "version_of"]
