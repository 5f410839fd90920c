"""Child processes that build a candidate."""
