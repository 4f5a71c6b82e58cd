"""POP3 on the wire: lines in, answers out. No I/O, no clock, no store."""
