"""Paired latency of a candidate beside the resident base."""
