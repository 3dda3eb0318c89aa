"""Leopard-EM's 2D template matches: statistics maps, picks and tables."""
