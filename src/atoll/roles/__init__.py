"""Wiring: one readable module per role. Nothing is joined anywhere else."""
