"""IMAP4rev2 [RFC 9051] and rev1 [RFC 3501]: README.md. The frontend imports `proxy`, the mailbox role `server`."""
