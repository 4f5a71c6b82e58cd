"""Atoll: an Exchange-class mail and calendar server. Every server is an island (docs/architecture.md)."""
