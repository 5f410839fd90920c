"""From the front to the choice: confirmation, race, rule."""
