"""Passes turn one model folder into another. They know nothing of trials, studies or Optuna."""
