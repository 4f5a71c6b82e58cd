"""Mail in bulk: from other servers and files into a mailbox, and out of it (docs/adr/0002)."""
