"""Formats of messages and calendars: bytes in, values out. No I/O, no clock, no store."""
