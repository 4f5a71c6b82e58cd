"""SMTP on the wire, pure: bytes in, values out. Every hop reads and writes with it (ADR 0005)."""
