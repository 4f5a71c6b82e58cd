"""Sockets, processes and calls between the roles of an island."""
