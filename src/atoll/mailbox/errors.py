"""The one exception of the mailbox layer and its closed set of codes.

    StoreError
      NO_FOLDER NO_RIGHT EXISTS NOT_EMPTY SYSTEM_FOLDER INVALID TOO_BIG GONE    the caller's doing
      OVER_QUOTA                                                               the owner's doing
      UNAVAILABLE                                                              try again: not mounted, locked, in doubt

Out    StoreError(code, public): `public` may be shown to any client; `detail` is for our log only.
Spec   docs/seams.md 4. "No right" reads like "no folder" to whoever may not look (Trust 10).
"""

from __future__ import annotations

from enum import Enum


class StoreCode(Enum):
    """Why a mailbox refused."""

    NO_FOLDER = "no-folder"
    EXISTS = "exists"
    OVER_QUOTA = "over-quota"
    NO_RIGHT = "no-right"
    UNAVAILABLE = "unavailable"
    TOO_BIG = "too-big"
    INVALID = "invalid"
    NOT_EMPTY = "not-empty"
    SYSTEM_FOLDER = "system-folder"
    GONE = "gone"


class StoreError(Exception):
    """The one exception that a mailbox raises."""

    def __init__(self, code: StoreCode, public: str, detail: str = "") -> None:
        super().__init__(public)
        self.code = code
        self.public = public
        self.detail = detail

    @property
    def temporary(self) -> bool:
        """Would the same request succeed later without anybody changing it?"""
        return self.code is StoreCode.UNAVAILABLE


def no_folder() -> StoreError:
    """There is none of that name, or the asker may not know that there is."""
    return StoreError(StoreCode.NO_FOLDER, "No such folder")


def no_right() -> StoreError:
    """The asker may see the folder, but not do this with it."""
    return StoreError(StoreCode.NO_RIGHT, "Permission denied")


def unavailable(detail: str = "") -> StoreError:
    """The mailbox cannot be used just now."""
    return StoreError(StoreCode.UNAVAILABLE, "The mailbox is not available just now", detail)
