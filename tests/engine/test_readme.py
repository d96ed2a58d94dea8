"""The README's Python, run as it stands against a real engine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any


def test_the_python_of_the_readme_finds_its_document(
    root: Path, opensearch_url: str, client: Any, new_index: Any, load: Any, capsys: Any
) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), re.DOTALL)
    index = new_index()
    rows = {"bees": "Insects dance.", "falls": "Cholecalciferol lowers the risk of tumbling."}
    load(client, index, [json.dumps({"_id": name, "text": text}) for name, text in rows.items()])
    block = block.replace("http://localhost:9200", opensearch_url).replace('"papers"', f'"{index}"')
    exec(compile(block, "README.md", "exec"), {})
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.split()[1] == "falls"
