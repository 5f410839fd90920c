"""The cache of builds, and atomic files."""
