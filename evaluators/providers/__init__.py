"""Execution providers: what runs here, and under which interpreter."""
