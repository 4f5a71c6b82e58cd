"""The schema of a mailbox database."""
