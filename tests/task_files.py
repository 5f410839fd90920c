"""Task files for lm-eval with data of their own, one of each kind of request; no hub needed."""

from __future__ import annotations

import json
from pathlib import Path

_SUBJECTS = ("bank", "boat", "river", "bread", "model", "price", "winter", "Monday")
CHOICE, PROSE, WRITING = "olivine_choice", "olivine_prose", "olivine_writing"


def write_tasks(folder: Path, questions: int = 8) -> Path:
    """A folder with a multiple-choice task, a rolling one and one that generates."""
    folder.mkdir(parents=True)
    rows = [
        {
            "question": f"The {_SUBJECTS[n % 8]} of number {n} was",
            "choices": ["green and wide", "wrong", "wrong quickly"],
            "label": n % 3,
            "text": f"{n}. The {_SUBJECTS[n % 8]} lay there all winter, and the price of it rose. " * (n + 1),
        }
        for n in range(questions)
    ]
    data = folder / "data.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    source = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {data}}}}}\ntest_split: test\n"
    (folder / f"{CHOICE}.yaml").write_text(
        f"task: {CHOICE}\n{source}output_type: multiple_choice\n"
        'doc_to_text: "{{question}}"\ndoc_to_choice: "{{choices}}"\ndoc_to_target: label\n'
        "metric_list:\n  - {metric: acc, aggregation: mean, higher_is_better: true}\nmetadata: {version: 1.0}\n"
    )
    (folder / f"{PROSE}.yaml").write_text(
        f'task: {PROSE}\n{source}output_type: loglikelihood_rolling\ndoc_to_text: ""\ndoc_to_target: "{{{{text}}}}"\n'
        "metric_list:\n  - {metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}\n"
        "metadata: {version: 1.0}\n"
    )
    (folder / f"{WRITING}.yaml").write_text(
        f'task: {WRITING}\n{source}output_type: generate_until\ndoc_to_text: "{{{{question}}}}"\n'
        'doc_to_target: "{{choices[label]}}"\n'
        'generation_kwargs: {until: ["."], max_gen_toks: 24, do_sample: false}\n'
        "metric_list:\n  - {metric: exact_match, aggregation: mean, higher_is_better: true}\nmetadata: {version: 1.0}\n"
    )
    return folder
