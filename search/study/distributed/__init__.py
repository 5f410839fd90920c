"""Several workers on one study."""
