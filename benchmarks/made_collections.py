"""Make judged collections of texts that carry their own questions.

    python benchmarks/made_collections.py titles arxiv-abstracts.jsonl.gz arxiv/
    python benchmarks/made_collections.py answers medquad.jsonl.gz medquad/

titles: each text is a title, a full stop and an abstract. The abstracts are the documents, and
titles are questions whose only relevant document is their abstract.
answers: each text is a passage, with the id ANSWER.NUMBER, and the first passage of an answer
begins with its question. All passages of the answer are relevant, without the question.

The same texts give the same collection. Judgements are called dev.
"""

from __future__ import annotations

import gzip
import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import click
from command import Benchmark

DOCUMENTS = 3000
QUESTIONS = {"titles": 400, "answers": 300}
SHORTEST_ABSTRACT = 50
LONGEST_TITLE = 24
SHORTEST_PASSAGE = 15
PASSAGES = range(2, 13)

Rows = list[dict[str, Any]]
Made = tuple[dict[str, str], dict[str, str], dict[str, list[str]]]
"""Documents, questions, and the relevant documents of each question."""


def of_titles(rows: Rows) -> Made:
    documents: dict[str, str] = {}
    questions: dict[str, str] = {}
    relevant: dict[str, list[str]] = {}
    for row in random.sample(rows, DOCUMENTS):
        title, _, abstract = row["text"].partition(". ")
        long_enough = len(abstract.split()) >= SHORTEST_ABSTRACT
        if not (long_enough and 2 < len(title.split()) <= LONGEST_TITLE):
            continue
        documents[row["_id"]] = abstract
        if len(questions) < QUESTIONS["titles"]:
            questions[f"q{row['_id']}"] = title
            relevant[f"q{row['_id']}"] = [row["_id"]]
    return documents, questions, relevant


def of_answers(rows: Rows) -> Made:
    answers = defaultdict(list)
    for row in rows:
        answers[row["_id"].rpartition(".")[0]].append(row)
    names = [
        name
        for name, parts in answers.items()
        if len(parts) in PASSAGES and "?" in parts[0]["text"][:150]
    ]
    random.shuffle(names)
    documents: dict[str, str] = {}
    questions: dict[str, str] = {}
    relevant: dict[str, list[str]] = {}
    for name in names:
        if len(documents) >= DOCUMENTS:
            break
        first, *others = answers[name]
        question, _, rest = first["text"].partition("?")
        if question.strip() in questions.values():
            continue
        passages = {first["_id"]: rest.strip(), **{row["_id"]: row["text"] for row in others}}
        long = {i: text for i, text in passages.items() if len(text.split()) >= SHORTEST_PASSAGE}
        documents |= long
        if long and len(questions) < QUESTIONS["answers"]:
            questions[f"q{name}"] = question.strip()
            relevant[f"q{name}"] = list(long)
    return documents, questions, relevant


@click.command(cls=Benchmark)
@click.argument("kind", type=click.Choice(["titles", "answers"]))
@click.argument("texts", type=click.Path(exists=True, path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
def main(kind: str, texts: Path, folder: Path) -> None:
    """Make a judged collection of TEXTS in FOLDER: of titles or of answers."""
    random.seed({"titles": 0, "answers": 1}[kind])
    with gzip.open(texts, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    documents, questions, relevant = (of_titles if kind == "titles" else of_answers)(rows)
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    for name, some in (("corpus", documents), ("queries", questions)):
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as out:
            out.writelines(json.dumps({"_id": i, "text": text}) + "\n" for i, text in some.items())
    pairs = [(query, document) for query, ids in relevant.items() for document in ids]
    lines = ["query-id\tcorpus-id\tscore", *(f"{q}\t{d}\t1" for q, d in pairs)]
    (folder / "qrels" / "dev.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    click.echo(f"{folder}: {len(documents):,} documents, {len(questions)} questions")


if __name__ == "__main__":
    main()
