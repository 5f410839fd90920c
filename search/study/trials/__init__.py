"""One trial: build, load, measure, record."""
