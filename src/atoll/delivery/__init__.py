"""Where transport meets mailbox: the only place (Exchange: Mailbox Transport Delivery)."""
