"""The drawings of the front and the history."""
