"""Administration: one table of typed operations, their handlers in the directory role, and the `atoll` command."""
