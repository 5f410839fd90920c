"""The study in optuna-dashboard."""
