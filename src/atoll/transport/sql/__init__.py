"""The queue database's schema."""
