from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olivine.evaluators.data.text_source import SPLITS, TextSource, splits
from olivine.passes.errors import UsageError
from olivine.search.config.sections import DatasetConfig, TextFileConfig


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


CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
SHARE_GPT = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]


def render(messages: Sequence[Mapping[str, Any]]) -> str:
    return "".join(f"<{message.get('role', message.get('from'))}>" for message in messages)


def rows_file(path: Path, *rows: dict[str, Any]) -> TextSource:
    path.write_text("\n".join(map(json.dumps, rows)))
    return TextSource.parse(str(path))


def test_rows_without_a_text_are_left_out(tmp_path: Path) -> None:
    source = rows_file(tmp_path / "a.jsonl", {"text": None}, {"text": "one"}, {"id": 3}, {"text": ""})
    assert source.documents() == ["one", ""]


def test_a_column_without_any_text_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a\.jsonl: no row has a text in 'text'"):
        rows_file(tmp_path / "a.jsonl", {"text": None}, {"text": None}).documents()


@pytest.mark.parametrize("value", [5, 2.5, True, {"a": "b"}, ["a", "b"], [{"content": "no role"}], []])
def test_a_value_that_is_no_text_is_named_with_its_line(tmp_path: Path, value: object) -> None:
    source = rows_file(tmp_path / "a.jsonl", {"text": "one"}, {"text": value})
    with pytest.raises(UsageError, match=r"a\.jsonl: line 2: 'text' holds .*, which is no text") as caught:
        source.documents(render)
    assert caught.value.exit_code == 2


def test_half_of_a_character_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "\\ud83d"}')
    with pytest.raises(UsageError, match=r"line 2: 'text' holds \\ud83d, which is half of a character"):
        TextSource.parse(str(tmp_path / "a.jsonl")).documents()


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"text": CHAT}, "<user><assistant>"),
        ({"messages": CHAT}, "<user><assistant>"),
        ({"conversations": SHARE_GPT}, "<human><gpt>"),
        ({"messages": CHAT, "text": "written out"}, "written out"),
    ],
)
def test_chat_messages_are_put_into_text(tmp_path: Path, row: dict[str, Any], text: str) -> None:
    assert rows_file(tmp_path / "a.jsonl", row, row).documents(render) == [text, text]


def test_chat_messages_are_no_text_where_no_model_puts_them_into_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="line 1: 'messages' holds chat messages"):
        rows_file(tmp_path / "a.jsonl", {"messages": CHAT}, {"messages": CHAT}).documents()


def test_messages_of_another_column_are_not_taken_for_a_named_one(tmp_path: Path) -> None:
    rows_file(tmp_path / "a.jsonl", {"messages": CHAT}, {"messages": CHAT})
    with pytest.raises(UsageError, match="has no column 'body'"):
        TextSource.parse({"file": str(tmp_path / "a.jsonl"), "column": "body"}).documents(render)


def test_a_csv_gives_the_texts_of_its_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n1,one\n2,two\n")
    assert TextSource.parse(str(tmp_path / "a.csv")).documents() == ["one", "two"]


def test_the_text_of_a_config_is_that_of_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    assert TextSource.of(TextFileConfig(file=str(tmp_path / "a.txt"))) == TextSource.parse(str(tmp_path / "a.txt"))
    assert TextSource.of("demo:news") == TextSource(demo="news")
    hub = DatasetConfig(dataset="a/b", split="train", column="body")
    assert TextSource.of(hub) == TextSource(dataset="a/b", split="train", column="body")


def test_the_same_texts_have_the_same_digest_in_whatever_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo", encoding="utf-8")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress("one\r\n\r\ntwo\r\n\r\n".encode("utf-16")))
    rows_file(tmp_path / "c.jsonl", {"text": "one"}, {"text": "two"})
    digests = {TextSource.parse(str(path)).digest() for path in tmp_path.iterdir()}
    assert len(digests) == 1
    (tmp_path / "a.txt").write_text("one\n\nthree")
    assert TextSource.parse(str(tmp_path / "a.txt")).digest() not in digests
    assert rows_file(tmp_path / "d.jsonl", {"messages": CHAT}, {"messages": CHAT}).digest() not in digests


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


@pytest.mark.demo
def test_the_real_encyclopedia_has_93_articles_of_prose() -> None:
    documents = TextSource.parse("demo:encyclopedia").documents()
    assert len(documents) == 93
    assert documents[0].startswith("Anarchism is a political philosophy")
