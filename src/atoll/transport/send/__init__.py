"""Mail that leaves the island: where to, over which connections, and what was heard there."""
