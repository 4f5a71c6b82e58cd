"""The wire form of IMAP: bytes to values and back. No I/O, no clock, no store."""
