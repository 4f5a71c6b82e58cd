"""What is stored: mailboxes, folders, items, one change log; knows no protocol."""

from atoll.mailbox.access import Access
from atoll.mailbox.across import Carried, carried
from atoll.mailbox.block import Block
from atoll.mailbox.errors import StoreCode, StoreError
from atoll.mailbox.model import (
    ANYONE,
    Changes,
    Content,
    Delivered,
    Delivery,
    Flag,
    FlagsDone,
    Folder,
    Look,
    NewMessage,
    Notice,
    Placed,
    Right,
    Row,
    Want,
    WellKnown,
)
from atoll.mailbox.store import Store
from atoll.mailbox.uidmap import UidMap
from atoll.mailbox.uidset import UidSet

__all__ = ["ANYONE", "Access", "Block", "Carried", "Changes", "Content", "Delivered", "Delivery", "Flag", "FlagsDone",
           "Folder", "Look", "NewMessage", "Notice", "Placed", "Right", "Row", "Store", "StoreCode", "StoreError",
           "UidMap", "UidSet", "Want", "WellKnown", "carried"]
