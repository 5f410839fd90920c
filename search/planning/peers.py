"""``olivine optimize --peers``: the exported folder beside the usual models of llama.cpp and OpenVINO."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from olivine.evaluators.data.text_source import TextSource, splits
from olivine.evaluators.data.tokenizing import ChatTemplate, tokenize
from olivine.evaluators.data.windows import TextProtocol, cut, draw
from olivine.evaluators.peers.comparison import Comparison, summarize
from olivine.evaluators.peers.quality import Windows
from olivine.evaluators.peers.rivals import Rivals, genai
from olivine.evaluators.peers.rows import OLIVINE, Row
from olivine.evaluators.peers.summary import PeerRow, to_json
from olivine.evaluators.peers.timing import PROMPT_TOKENS
from olivine.evaluators.providers.interpreters import environment
from olivine.passes.cpu import available_cores
from olivine.passes.errors import UsageError
from olivine.passes.pipeline import source_artifact
from olivine.passes.sources.source import Source
from olivine.passes.store.atomic_files import make_folder, write_atomic
from olivine.passes.store.cache import Cache, cache_root
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.study_dir import StudyDir

#: Where ``make peers`` installs the engines.
HOME = environment("peers")
INSTALL = "'make peers' in a checkout of olivine installs them into envs/peers; elsewhere name that folder: --peers DIR"
#: The formats that people take by default.
GGUF, OPENVINO = ("Q8_0", "Q4_K_M"), ("int8", "int4 g64")
#: Windows of each kind of text that loss is measured on, their tokens, prompts that are timed, and rounds; fewer
#: than six give no interval.
WINDOWS, WINDOW_TOKENS, PROMPTS, ROUNDS = 8, 512, 20, 8


@dataclass(frozen=True)
class Peers:
    """The other engines, and what is compared with them.

    Attributes:
        source: the model.
        home: environments of the engines.
        study: folder of the study; all that is made and measured is kept below it.
        say: takes a line for people.
    """

    source: Source
    home: Path
    study: StudyDir
    say: Callable[[str], None]

    def refusal(self, provider: str) -> str:
        """Reason for which nothing can be compared; empty where it can.

        Args:
            provider: that the study runs on.

        Raises:
            UsageError: when this model or provider can't be compared at all.
        """
        if self.source.kind == "onnx":
            raise UsageError(f"--peers: {self.source.name} is an ONNX graph; the other engines need its checkpoint")
        if provider != "cpu":
            raise UsageError(f"--peers compares on the CPU, and this study runs on '{provider}'. Add --provider cpu.")
        if missing := self._rivals(self.study.root, [], 1).missing:
            return f"llama.cpp and OpenVINO are not compared: there is no {missing[0]}. {INSTALL}."
        return ""

    def compare(self, config: LanguageStudyConfig, folder: Path) -> list[PeerRow]:
        """Make the other engines' models, measure them beside the folder, and keep the result in the study folder.

        Args:
            config: of the study, whose texts are scored and learned from.
            folder: the exported selection.

        Raises:
            RivalFailed: when an engine can't make its model.
            UsageError: when a text can't be read.
        """
        work = self.study.peers_work
        make_folder(work)
        checkpoint = source_artifact(self.source, Cache(cache_root())).path
        texts = _Texts(config, checkpoint)
        threads = available_cores()
        rivals = self._rivals(checkpoint, texts.documents("calibrate"), threads).rows()
        rows = [Row(OLIVINE, "selection", folder.resolve(), genai(folder.resolve(), threads)), *rivals]
        shown = [row for row in rows if row.timed]
        comparison = Comparison(checkpoint, shown, texts.windows(), texts.prompts(), work, self.say)
        comparison.score()
        comparison.time(ROUNDS)
        found = summarize(comparison.results())
        write_atomic(self.study.peers_path, to_json(found))
        return found

    def _rivals(self, checkpoint: Path, calibration: list[str], threads: int) -> Rivals:
        work, home = self.study.peers_work.resolve(), self.home.expanduser().absolute()
        return Rivals(checkpoint, work, home, calibration, threads, GGUF, OPENVINO, (), self.say)


@dataclass(frozen=True)
class _Texts:
    """The texts of a study in the tokens of its model.

    Attributes:
        config: of the study.
        checkpoint: whose tokenizer cuts them.
    """

    config: LanguageStudyConfig
    checkpoint: Path

    def documents(self, split: str) -> list[str]:
        """Documents of one split of the study's own text."""
        return self._split(TextSource.of(self.config.evaluation.text), split)

    def windows(self) -> Windows:
        """Windows of what the study confirms on: its own text, and the other kinds that it names."""
        return {source.name: self._cut(source, WINDOW_TOKENS, WINDOWS) for source in self._kinds()}

    def prompts(self) -> list[list[int]]:
        """Prompts out of the study's own text."""
        return self._cut(TextSource.of(self.config.evaluation.text), PROMPT_TOKENS, PROMPTS)

    def _kinds(self) -> Iterator[TextSource]:
        yield TextSource.of(self.config.evaluation.text)
        yield from map(TextSource.of, (self.config.evaluation.other_texts or {}).values())

    def _split(self, source: TextSource, split: str) -> list[str]:
        return splits(source.documents(ChatTemplate(self.checkpoint).render), self.config.seed)[split]

    def _cut(self, source: TextSource, length: int, count: int) -> list[list[int]]:
        protocol = TextProtocol(length, length)
        text = tokenize(protocol.joiner.join(self._split(source, "confirm")), self.checkpoint)
        wanted = max(1, min(count, len(cut(text, protocol))))
        return [list(w.tokens) for w in draw(text, protocol, wanted, self.config.seed, f"{source.name} (confirm)")]
