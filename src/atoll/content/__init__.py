"""Decoding what is costly or dangerous, in a process that has nothing to lose."""

from atoll.content.client import ContentClient, ContentError
from atoll.content.scanner import Scanner, quick

__all__ = ["ContentClient", "ContentError", "Scanner", "quick"]
