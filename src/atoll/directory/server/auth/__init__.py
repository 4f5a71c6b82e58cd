"""Sign-in: hashes, the lane they are computed in, what is remembered, who is slowed down."""
