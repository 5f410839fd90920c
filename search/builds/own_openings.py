"""Openings of the text that a model writes itself: plain text, and a user's turn where it has a chat template."""

from __future__ import annotations

from pathlib import Path

from olivine.evaluators.data.tokenizing import ChatTemplate, tokenize
from olivine.passes.artifact import ModelArtifact
from olivine.passes.learn.own_text import Opening


def openings_of(model: ModelArtifact) -> tuple[Opening, ...]:
    """The openings of a model's own text.

    Plain text begins with what the tokenizer puts before a text, or with the token that ends the text before it.

    Raises:
        UsageError: when the folder has no tokenizer that can be read.
    """
    folder, config = model.path, model.genai_config()["model"]
    ends = config.get("eos_token_id", 0)
    ends = ends if isinstance(ends, list) else [ends]
    plain = tokenize("", folder).bos or tuple(ends[:1])
    found = [Opening(plain, (plain if plain[0] not in ends else (),))]
    if (turn := ChatTemplate(folder).user_turn()) is not None:
        question, answer = _ids(turn[0], folder), _ids(turn[1], folder)
        if question:
            found.append(Opening(question, (answer[1:] if answer[:1] and answer[0] in ends else answer, question)))
    return tuple(found)


def _ids(text: str, folder: Path) -> tuple[int, ...]:
    return tokenize(text, folder).ids
