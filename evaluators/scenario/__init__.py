"""Uses of a model: prompts, answers and turns, and a model folder that is run through them as it is deployed."""
