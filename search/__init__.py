"""The study: Optuna asks, passes build, evaluators measure, the Pareto front picks."""
