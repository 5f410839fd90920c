"""Passes: what turns one model folder into another. Knows nothing of trials, studies or Optuna."""
