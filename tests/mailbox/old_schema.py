"""A database as version 0001 wrote it, made from one of today: what a migration finds in the field.

python -m tests.mailbox.old_schema FOLDER     mounts FOLDER/db1.sqlite, says so, ends
"""

from __future__ import annotations

import asyncio
import sys
from importlib.resources import files
from pathlib import Path

from atoll.mailbox import Store
from atoll.sql.sqlite import SqliteEngine

from .killed import FileDirectory
from .kit import StillClock

FIRST = files("atoll.mailbox.sql").joinpath("schema", "0001_start.sql").read_text()
ITEM = "fid, uid, mid, id, cn, cn_item, cn_body, flags, received, size, blob, conv, kw, name"


def downgrade(path: Path) -> None:
    """The file gets the rows it has in the first version's tables; derived files go."""
    engine = SqliteEngine()
    old = path.with_name("old.sqlite")
    database = engine.open(old)
    try:
        writer = database.writer
        writer.begin()
        writer.script(engine.schema(FIRST))
        writer.commit()
        writer.run("ATTACH DATABASE ? AS new", (str(path),))
        tables = [name for (name,) in writer.all("SELECT name FROM main.sqlite_master WHERE type = 'table'"
                                                 " AND name NOT LIKE 'sqlite_%' ORDER BY name")]
        writer.begin()
        for table in tables:
            if table == "schema_version":
                continue
            writer.run(f"DELETE FROM main.{table}")
            columns, source = "*", "*"
            if table == "item":
                columns = source = ITEM
            elif table == "item_meta":
                source = "place >> 32, place & 4294967295, envelope, structure, preview, sort, props"
            into = f"({columns})" if columns != "*" else ""
            writer.run(f"INSERT INTO main.{table} {into} SELECT {source} FROM new.{table}")
        writer.commit()
        writer.run("DETACH DATABASE new")
        database.checkpoint(restart=True)
    finally:
        database.close()
    for stale in path.parent.glob(path.stem + ".*"):
        stale.unlink()
    old.rename(path)
    for suffix in ("-wal", "-shm", ".lock"):
        old.with_name(old.name + suffix).unlink(missing_ok=True)


async def main(folder: Path) -> None:
    directory = FileDirectory(folder / "epochs.json")
    store = Store(SqliteEngine(), directory.mailbox, directory, clock=StillClock())
    await store.mount("db1", folder / "db1.sqlite")
    sys.stdout.write("mounted\n")
    sys.stdout.flush()
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
