"""LMTP into the mailboxes of one process, from transport only (README.md)."""
