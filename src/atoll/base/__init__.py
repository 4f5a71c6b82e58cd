"""What every package may use and what imports nothing of ours: errors, ids, clocks, configuration, logs."""
