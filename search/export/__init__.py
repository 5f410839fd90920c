"""Exported folders: model, manifest, card, package, verify."""
