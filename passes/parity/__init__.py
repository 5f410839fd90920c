"""Parity: proof that an exported float graph computes what its checkpoint computes."""
