"""`Search` of opensearch-py, rewritten."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opensearchpy.helpers.search import Search


def rewritten_search(search: Search, rewrite: Callable[[dict[str, Any]], dict[str, Any]]) -> Search:
    """Return a search with the rewritten body, of the same classes; `search` is not changed."""
    given = search.to_dict()
    body = rewrite(given)
    new: Search = search.extra()
    new.update_from_dict({name: v for name, v in body.items() if given.get(name) != v})
    # What stands in `extra` counts before the rest.
    made = new.to_dict()
    new = new.extra(**{name: v for name, v in body.items() if made.get(name) != v})
    if "min_score" in given and "min_score" not in body:
        new = new.extra(min_score=0)  # a Search cannot drop it
    return new
