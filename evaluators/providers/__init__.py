"""Execution providers: their state on this machine, and the interpreters that have them."""
