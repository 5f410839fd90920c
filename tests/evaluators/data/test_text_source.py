from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from olivine.evaluators.data.text_source import SPLITS, TextSource, splits, tokenize
from olivine.evaluators.data.windows import TokenizedText
from olivine.passes.errors import UsageError


@pytest.fixture
def tokenizer_folder(tmp_path: Path) -> Path:
    """A tokenizer that knows letters and blanks, and puts <s> before a text."""
    vocab = {"<s>": 0, "a": 1, "b": 2, " ": 3, "é": 4}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_a_text_is_tokenized_without_special_tokens_and_the_habit_is_noted(tokenizer_folder: Path) -> None:
    found = tokenize("ab é", tokenizer_folder)
    assert found == TokenizedText("ab é", (1, 2, 3, 4), ((0, 1), (1, 2), (2, 3), (3, 4)), (0,))


def test_a_folder_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no tokenizer that can be read"):
        tokenize("a", tmp_path)


def test_documents_of_a_text_file_are_separated_by_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("one\nstill one\n\ntwo\n\n\n")
    source = TextSource.parse(str(tmp_path / "t.txt"))
    assert source.documents() == ["one\nstill one", "two"]
    assert source.name == "t.txt"


@pytest.mark.parametrize("kind", ["json", "jsonl", "parquet"])
def test_files_with_columns_are_read(tmp_path: Path, kind: str) -> None:
    rows = [{"body": "one", "id": 1}, {"body": "two", "id": 2}]
    path = tmp_path / f"t.{kind}"
    if kind == "json":
        path.write_text(json.dumps(rows))
    elif kind == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows))
    else:
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(rows), path)
    assert TextSource.parse({"file": str(path), "column": "body"}).documents() == ["one", "two"]
    with pytest.raises(UsageError, match=r"has no column 'bodi'\. Did you mean 'body'\?"):
        TextSource.parse({"file": str(path), "column": "bodi"}).documents()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("demo:new", r"Unknown text 'demo:new'\. Did you mean 'demo:news'"),
        ("no/such/file.txt", "No file 'no/such/file.txt'"),
        ({"datset": "x"}, "Unknown key 'datset' of a text. Did you mean 'dataset'"),
        ({"split": "test"}, "either 'file' or 'dataset'"),
    ],
)
def test_a_wrong_source_names_the_cure(spec: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TextSource.parse(spec)  # type: ignore[arg-type]


def test_a_broken_json_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "a"}\n{')
    with pytest.raises(UsageError, match=r"t\.jsonl: line 2 is no JSON"):
        TextSource.parse(str(tmp_path / "t.jsonl")).documents()


def test_an_unreachable_hub_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def offline(*args: object, **options: object) -> None:
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    source = TextSource.parse({"dataset": "Salesforce/wikitext", "config": "wikitext-2-raw-v1"})
    with pytest.raises(UsageError, match=r"'Salesforce/wikitext:wikitext-2-raw-v1:test'.*hub can be reached"):
        source.documents()


def test_a_hub_data_set_is_read_with_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def fake(*args: object, **options: object) -> datasets.Dataset:
        assert (args, options) == (("owner/name", "config"), {"split": "validation", "revision": "abc"})
        return datasets.Dataset.from_dict({"text": ["one", ""]})

    monkeypatch.setattr(datasets, "load_dataset", fake)
    spec = {"dataset": "owner/name", "config": "config", "split": "validation", "revision": "abc"}
    assert TextSource.parse(spec).documents() == ["one", ""]


@given(documents=st.lists(st.text(min_size=1, max_size=8), max_size=60), seed=st.integers(0, 3))
def test_splits_share_no_document_and_lose_none(documents: list[str], seed: int) -> None:
    found = splits(documents, seed)
    assert tuple(found) == SPLITS
    sets = [{d.strip() for d in part} for part in found.values()]
    assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])
    assert sorted(d for part in found.values() for d in part) == sorted(d for d in documents if d.strip())


def test_splits_follow_the_seed_and_the_text_alone() -> None:
    documents = [f"document {n}" for n in range(600)]
    found = splits(documents, 1)
    assert splits(list(reversed(documents)), 1)["select"] == found["select"][::-1]
    assert splits(documents, 2)["select"] != found["select"]
    assert [round(len(part) / 600, 1) for part in found.values()] == [0.4, 0.3, 0.3]


@pytest.mark.demo
def test_the_demo_news_are_300_articles() -> None:
    documents = TextSource.parse("demo:news").documents()
    assert len(documents) == 300
    assert all(splits(documents).values())
