"""Memory, disk and time of a study, before it runs."""
