"""How mail moves: receive, categorize, queue, track. Knows no mailbox: delivery/ is where the two meet."""
