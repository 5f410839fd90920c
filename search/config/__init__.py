"""YAML to a checked study config."""
