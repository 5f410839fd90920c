from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_graph import tiny_plain_yaml

from olivine.passes.errors import UsageError
from olivine.passes.graphs.graph_inputs import GraphInput, read_feeds
from olivine.search.config.graph import GraphStudyConfig
from olivine.search.config.load import parse_config
from olivine.search.workloads.graph_samples import make_samples

IDS = (GraphInput("input_ids", "int64", ("batch", "sequence"), 50),)
PICTURE = (GraphInput("pixels", "float32", ("batch", 3, 8, 8)),)
SHAPES = {"one": {"batch": 1, "sequence": 4}}


def config(**inputs: Any) -> GraphStudyConfig:
    return parse_config(tiny_plain_yaml(Path("x.onnx"), inputs={"shapes": SHAPES, "samples": 3, **inputs}), "x.yaml")


def test_made_up_samples_are_the_same_every_time_and_differ_between_splits(tmp_path: Path) -> None:
    made = [make_samples(config(), tmp_path, IDS, tmp_path / name) for name in ("a", "b")]
    assert made[0].counts == {"calibrate": 32, "select": 3, "confirm": 3}
    select = [read_feeds(one.path("select"))[0]["input_ids"] for one in made]
    np.testing.assert_array_equal(select[0], select[1])
    assert not np.array_equal(select[0], read_feeds(made[0].path("confirm"))[0]["input_ids"])
    assert [feed["input_ids"].shape for feed in read_feeds(made[0].timed)] == [(1, 4)]


def test_rows_of_arrays_are_shared_out_without_repetition(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", input_ids=np.arange(24).reshape(12, 2))
    made = make_samples(config(data=str(tmp_path / "rows.npz")), tmp_path, IDS, tmp_path / "out")
    rows = [
        int(feed["input_ids"][0, 0])
        for split in ("calibrate", "select", "confirm")
        for feed in read_feeds(made.path(split))
    ]
    assert len(rows) == len(set(rows)) == 4 + 3 + 3


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"other": np.zeros(3)}, "has no array input_ids; it has other"),
        ({"input_ids": np.zeros((2, 4))}, "0 samples|1 samples"),
    ],
    ids=["name", "few"],
)
def test_arrays_that_do_not_do_are_named(arrays: dict[str, np.ndarray], said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", **arrays)
    with pytest.raises(UsageError, match=said):
        make_samples(config(data=str(tmp_path / "rows.npz")), tmp_path, IDS, tmp_path / "out")


def test_texts_need_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("\n\n".join(f"document {i}" for i in range(40)))
    with pytest.raises(UsageError, match=r"tokenizer\.json"):
        make_samples(config(text={"file": str(tmp_path / "text.txt")}), tmp_path, IDS, tmp_path / "out")


def test_texts_are_cut_by_the_models_tokenizer_and_no_document_is_in_two_splits(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {f"w{i}": i for i in range(50)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "text.txt").write_text("\n\n".join(f"w{i} w{i} w{i}" for i in range(1, 40)))
    inputs = (*IDS, GraphInput("attention_mask", "int64", ("batch", "sequence")))
    made = make_samples(config(text={"file": str(tmp_path / "text.txt")}, tokens=2), tmp_path, inputs, tmp_path / "out")
    parts = [
        {feed["input_ids"].tobytes() for feed in read_feeds(made.path(s))} for s in ("calibrate", "select", "confirm")
    ]
    assert not parts[0] & parts[1] and not parts[1] & parts[2] and not parts[0] & parts[2]
    feed = read_feeds(made.path("select"))[0]
    assert feed["input_ids"].shape == feed["attention_mask"].shape == (1, 2)


def test_pictures_become_normalized_crops(tmp_path: Path) -> None:
    sized = tiny_plain_yaml(
        Path("x.onnx"), inputs={"shapes": {"one": {"batch": 2}}, "samples": 3, "pictures": "demo:photos"}
    )
    made = make_samples(parse_config(sized, "x.yaml"), tmp_path, PICTURE, tmp_path / "out")
    pixels = read_feeds(made.path("select"))[0]["pixels"]
    assert pixels.shape == (1, 3, 8, 8)
    assert -2.2 < pixels.min() < pixels.max() < 2.7
    with pytest.raises(UsageError, match="no folder"):
        make_samples(
            parse_config({**sized, "inputs": {**sized["inputs"], "pictures": "nowhere"}}, "x.yaml"),
            tmp_path,
            PICTURE,
            tmp_path / "out",
        )
