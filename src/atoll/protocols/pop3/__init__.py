"""POP3: the frontend's half (proxy) and the mailbox process's half (server)."""
