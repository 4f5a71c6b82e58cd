"""SMTP in: the front end of ports 25, 587 and 465 (front), and transport's end of the inside hop (hop). README.md."""
