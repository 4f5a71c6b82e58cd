"""Full-text search: a derivable index beside each database, and the answering of queries."""
