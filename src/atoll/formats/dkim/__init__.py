"""DKIM's tag lists and keys: octets in, values out."""
