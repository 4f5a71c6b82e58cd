"""The version of this product; also stated in the greeting of every inside hop (ISLANDS 11.18)."""

__version__ = "0.1.0"
PRODUCT = "Atoll"
