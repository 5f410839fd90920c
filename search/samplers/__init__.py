"""Proposals of the next candidate."""
