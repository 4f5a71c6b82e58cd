"""Decoding what is costly or dangerous, in a process that has nothing to lose."""

from atoll.content.client import ContentClient, ContentError

__all__ = ["ContentClient", "ContentError"]
