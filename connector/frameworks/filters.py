"""Filters of frameworks → clauses of the engine's query language.

LangChain    {"year": {"$gte": 2020}, "$or": [{"lang": "en"}, {"lang": "de"}]}
LlamaIndex   MetadataFilters, nested

A string is compared with the whole value: in a text field, by its sub-field of type keyword.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from latent_ingest.connector.errors import InputError

Clause = dict[str, Any]

RANGES = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}

# Operators of LangChain's integrations, and of the functions below.
DOLLARS = {
    "$eq": "==", "$ne": "!=", "$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<=", "$in": "in",
    "$nin": "nin", "$exists": "exists", "$contains": "==",
}  # fmt: skip


class Fields:
    """The fields of one or more indices, as their mappings describe them."""

    def __init__(self, mappings: Mapping[str, Any]) -> None:
        """Read the engine's answer to `get_mapping`."""
        self._properties = [content["mappings"] for content in mappings.values()]

    def exact(self, name: str) -> str:
        """The field in which a whole value is found: the field itself, or its keyword.

        Raises:
            InputError: it is a text without a sub-field of type keyword, or an object.
        """
        for properties in self._properties:
            field = properties
            for part in name.split("."):
                inner = field.get("properties", {})
                field = inner.get(part) or field.get("fields", {}).get(part, {})
            if "properties" in field:
                raise InputError(f"field {name!r} is an object; filter by a field inside it")
            if field.get("type") != "text":
                continue
            for sub, content in field.get("fields", {}).items():
                if content.get("type") == "keyword":
                    return f"{name}.{sub}"
            raise InputError(
                f"field {name!r} is text without a sub-field of type keyword, so no whole value "
                f"is found in it; filter by another field"
            )
        return name


def comparison(fields: Fields, name: str, operator: str, value: Any) -> Clause:
    """The clause for one comparison of a field with a value.

    Args:
        fields: the fields of the index.
        name: of the field.
        operator: "==", "!=", one of `RANGES`, "in", "nin", "all", "exists" or "text_match".
        value: a string, number or truth value; a list for "in", "nin" and "all".

    Raises:
        InputError: an unknown operator, or a value that does not suit it.
    """
    if not isinstance(name, str) or not name:
        raise InputError(f"filter on {name!r}: name a field")
    if operator == "text_match":
        return {"match_phrase": {name: value}}
    field = fields.exact(name)
    if operator == "exists":
        there = {"exists": {"field": field}}
        return there if value else negated(there)
    if operator in ("in", "nin", "all"):
        if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
            raise InputError(f"filter on {name!r}: {operator!r} needs a list, not {value!r:.60}")
        if operator == "all":
            return {"bool": {"filter": [{"term": {field: one}} for one in value]}}
        within = {"terms": {field: list(value)}}
        return within if operator == "in" else negated(within)
    if value is None and operator in ("==", "!="):
        there = {"exists": {"field": field}}
        return negated(there) if operator == "==" else there
    if not isinstance(value, (str, int, float)):
        raise InputError(
            f"filter on {name!r}: {operator!r} needs a string or a number, not {value!r:.60}"
        )
    if operator in RANGES:
        return {"range": {field: {RANGES[operator]: value}}}
    if operator not in ("==", "!="):
        raise InputError(f"filter on {name!r}: unknown operator {operator!r}")
    equal = {"term": {field: value}}
    return equal if operator == "==" else negated(equal)


def negated(*clauses: Clause) -> Clause:
    """The clause that matches what none of the others matches."""
    return {"bool": {"must_not": list(clauses)}}


def any_of(clauses: Sequence[Clause]) -> Clause:
    """The clause that matches what at least one of the others matches."""
    return {"bool": {"should": list(clauses), "minimum_should_match": 1}}


def all_of(clauses: Sequence[Clause]) -> Clause:
    """The clause that matches what all others match."""
    return clauses[0] if len(clauses) == 1 else {"bool": {"filter": list(clauses)}}


def from_dollars(filter: Mapping[str, Any], fields: Fields) -> Clause:
    """The clause for a filter as LangChain's integrations have it.

    A field has a value, a list of values of which one must be there, or an object of operators.
    """
    if not isinstance(filter, Mapping):
        raise InputError(f'filter {filter!r:.60}: write an object like {{"year": 2024}}')
    clauses = []
    for name, value in filter.items():
        if name in ("$and", "$or", "$not"):
            parts = value if isinstance(value, list) else [value]
            inner = [from_dollars(part, fields) for part in parts]
            combine: Callable[..., Clause] = any_of if name == "$or" else all_of
            clauses.append(negated(all_of(inner)) if name == "$not" else combine(inner))
        elif isinstance(value, Mapping):
            for operator, operand in value.items():
                if operator not in DOLLARS:
                    known = ", ".join(DOLLARS)
                    raise InputError(f"filter on {name!r}: operator {operator!r}; use {known}")
                clauses.append(comparison(fields, name, DOLLARS[operator], operand))
        else:
            operator = "in" if isinstance(value, list) else "=="
            clauses.append(comparison(fields, name, operator, value))
    return all_of(clauses)


# Operators of LlamaIndex, by their values, where they are not those of `comparison`.
LLAMA_OPERATORS = {"any": "in", "contains": "==", "text_match_insensitive": "text_match"}


def from_llama(filters: Any, fields: Fields) -> Clause:
    """The clause for LlamaIndex's `MetadataFilters`, or one filter of them."""
    if not hasattr(filters, "filters"):
        operator = filters.operator.value
        if operator == "is_empty":
            return comparison(fields, filters.key, "exists", False)
        operator = LLAMA_OPERATORS.get(operator, operator)
        return comparison(fields, filters.key, operator, filters.value)
    inner = [from_llama(part, fields) for part in filters.filters]
    condition = getattr(filters.condition, "value", filters.condition) or "and"
    if condition == "not":
        return negated(*inner)
    return any_of(inner) if condition == "or" else all_of(inner)
