"""The protocols people speak to Atoll, one package each, all alike inside; none imports another."""
