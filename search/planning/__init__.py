"""All that happens before a run: plan, estimate, presets, optimize."""
