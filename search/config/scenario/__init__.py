"""The section ``scenario:`` of a study: its form, and what it decides of the others."""
