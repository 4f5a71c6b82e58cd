"""Who exists: users, mailboxes, addresses, domains, credentials. client/ is what others import."""
