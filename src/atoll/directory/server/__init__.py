"""The directory itself: its database, its rules of names, sign-in. Runs in the directory role only."""
