"""Reads workflows of Microsoft Olive."""
