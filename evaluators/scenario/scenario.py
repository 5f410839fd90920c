"""Scenario: the use that a model is measured for, as lengths of prompts and answers; and the ready ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from olivine.passes.errors import UsageError, did_you_mean

#: Name of a scenario that no ready one is the start of.
OWN = "own"
_DEMO = "demo:"
#: Prompts that olivine brings, by the name that ``prompts`` takes. No ready scenario has those that are held back.
DEMO_PROMPTS = tuple(f"{_DEMO}{name}" for name in ("chat", "chat-held-back", "code-edit", "code-edit-held-back"))


def prompts_file(prompts: str) -> Path:
    """The file that ``prompts`` names: a path, or one of ``DEMO_PROMPTS``.

    Raises:
        UsageError: for ready prompts that there are not.
    """
    if not prompts.startswith(_DEMO):
        return Path(prompts).expanduser()
    if prompts not in DEMO_PROMPTS:
        raise UsageError(f"unknown prompts '{prompts}'. {did_you_mean(prompts, DEMO_PROMPTS)}")
    return Path(__file__).parent / "ready_prompts" / f"{prompts.removeprefix(_DEMO)}.jsonl"


@dataclass(frozen=True)
class Scenario:
    """One use of a model, as token counts.

    Attributes:
        name: of the ready scenario that it is, or starts from; ``own`` for none.
        context: tokens of prompts and answers that have to fit; 0 for as many as the scenario takes.
        prompt_tokens: of the first prompt; of a file's prompts an estimate, until a model's tokenizer has cut them.
        new_tokens: of each answer.
        turns: prompts of one conversation, whose earlier turns stay in the cache.
        turn_tokens: of each prompt after the first.
        prompts: file with prompts of one's own, or the name of ready ones, ``demo:code-edit``; empty for random tokens.
    """

    name: str = OWN
    context: int = 0
    prompt_tokens: int = 128
    new_tokens: int = 32
    turns: int = 1
    turn_tokens: int = 64
    prompts: str = ""

    @property
    def tokens(self) -> int:
        """Tokens of all prompts and answers."""
        return self.prompt_tokens + self.new_tokens + (self.turns - 1) * (self.turn_tokens + self.new_tokens)

    def complete(self) -> Scenario:
        """The same with a context.

        Raises:
            UsageError: when the context is too short, ready prompts are unknown, or what is asked of a file's prompts
                needs more than they tell.
        """
        prompts_file(self.prompts)
        if self.prompts and self.turns > 1:
            raise UsageError(
                "a file of prompts gives each conversation its first prompt alone; leave 'turns' out, or name lengths "
                "instead of 'prompts'"
            )
        if self.prompts and not self.context:
            raise UsageError("'prompts' needs a 'context': the tokens of prompt and answer that have to fit")
        if self.context and not self.prompts and self.tokens > self.context:
            raise UsageError(
                f"the context of {self.context} tokens is too short: {self.words()} take {self.tokens}. Raise "
                "'context', or shorten them"
            )
        return self if self.context else Scenario(**{**self.__dict__, "context": self.tokens})

    def words(self) -> str:
        """Prompts and lengths in words, such as ``a prompt of 2000 and an answer of 200 tokens``."""
        if self.prompts:
            name = self.prompts if self.prompts in DEMO_PROMPTS else prompts_file(self.prompts).name
            return f"prompts of {name}, each with an answer of at most {self.new_tokens} tokens"
        if self.turns == 1:
            return f"a prompt of {self.prompt_tokens} and an answer of {self.new_tokens} tokens"
        return (
            f"{self.turns} turns, a first prompt of {self.prompt_tokens} tokens, later ones of {self.turn_tokens} and "
            f"answers of {self.new_tokens}"
        )


#: Name -> a scenario that needs no further words.
READY: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("chat", context=4096, prompt_tokens=128, new_tokens=128, turns=6, turn_tokens=64),
        Scenario("rag", context=4096, prompt_tokens=2000, new_tokens=200),
        Scenario("summarize", context=4096, prompt_tokens=3000, new_tokens=256),
        Scenario("code-edit", context=4096, prompt_tokens=900, new_tokens=300, prompts="demo:code-edit"),
        Scenario("classify", context=2048, prompt_tokens=1500, new_tokens=2),
        Scenario("agent", context=8192, prompt_tokens=1500, new_tokens=64, turns=12, turn_tokens=64),
    )
}
