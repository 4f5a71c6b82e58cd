"""What a stranger with the RFCs in hand checks: raw clients of our own that share no code with the server."""
