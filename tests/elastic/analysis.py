"""Parts of analyzers for a server of Elasticsearch 8 or 9: Lucene's, with Elasticsearch's settings.

An installation has them in the module `analysis-common`, which is not published.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jpype

ANALYSIS = "org.elasticsearch.index.analysis"
LUCENE = "org.apache.lucene.analysis"

Make = Callable[[str, Any], Any]
"""Called with the name of a part and its settings."""


def provider(make: Make) -> Any:
    """The part as the server asks for it: for an index, or for `_analyze` alone."""
    empty = jpype.JClass("org.elasticsearch.common.settings.Settings").EMPTY

    def get(*asked: Any) -> Any:
        return make(*asked[2:]) if len(asked) == 4 else make(asked[1], empty)

    methods = {"get": get, "requiresAnalysisSettings": lambda: make in (pattern_replace, mapping)}
    return jpype.JProxy(
        "org.elasticsearch.indices.analysis.AnalysisModule$AnalysisProvider", dict=methods
    )


def whitespace(name: str, _settings: Any) -> Any:
    kind = jpype.JClass(f"{LUCENE}.core.WhitespaceTokenizer")
    make = jpype.JProxy("java.util.function.Supplier", dict={"get": lambda: kind()})
    return jpype.JClass(f"{ANALYSIS}.TokenizerFactory").newFactory(name, make)


def english(name: str, _settings: Any) -> Any:
    scope = jpype.JClass(f"{ANALYSIS}.AnalyzerScope").INDICES
    analyzer = jpype.JClass(f"{LUCENE}.en.EnglishAnalyzer")()
    return jpype.JClass(f"{ANALYSIS}.PreBuiltAnalyzerProvider")(name, scope, analyzer)


def pattern_replace(name: str, settings: Any) -> Any:
    kind = jpype.JClass(f"{LUCENE}.pattern.PatternReplaceCharFilter")
    pattern = jpype.JClass("java.util.regex.Pattern").compile(settings.get("pattern"))
    replacement = settings.get("replacement", "")
    return char_filter(name, lambda reader: kind(pattern, replacement, reader))


def mapping(name: str, settings: Any) -> Any:
    kind = jpype.JClass(f"{LUCENE}.charfilter.MappingCharFilter")
    rules = jpype.JClass(f"{LUCENE}.charfilter.NormalizeCharMap$Builder")()
    for rule in settings.getAsList("mappings"):
        left, right = (unescaped(part.strip()) for part in str(rule).split("=>"))
        rules.add(left, right)
    built = rules.build()
    return char_filter(name, lambda reader: kind(built, reader))


def unescaped(text: str) -> str:
    """The text with characters for their escapes, such as `\\u0301`."""
    return re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), text)


def char_filter(name: str, make: Callable[[Any], Any]) -> Any:
    methods = {"name": lambda: name, "create": make, "normalize": lambda reader: reader}
    return jpype.JProxy(f"{ANALYSIS}.CharFilterFactory", dict=methods)


def limit(name: str, settings: Any) -> Any:
    kind = jpype.JClass(f"{LUCENE}.miscellaneous.LimitTokenCountFilter")
    most = int(str(settings.get("max_token_count", "1")))
    return token_filter(name, lambda tokens: kind(tokens, most))


def token_filter(name: str, make: Callable[[Any], Any]) -> Any:
    methods = {
        "name": lambda: name,
        "create": make,
        "normalize": lambda tokens: tokens,
        "breaksFastVectorHighlighter": lambda: False,
        "getChainAwareTokenFilterFactory": lambda *_: made,
        "getSynonymFilter": lambda: made,
        "getAnalysisMode": lambda: jpype.JClass(f"{ANALYSIS}.AnalysisMode").ALL,
        "getResourceName": lambda: None,  # of 8
        "getResourceNames": lambda: jpype.JClass("java.util.Set").of(),  # of 9
    }
    made = jpype.JProxy(f"{ANALYSIS}.TokenFilterFactory", dict=methods)
    return made


PARTS: dict[str, dict[str, Make]] = {
    "tokenizers": {"whitespace": whitespace},
    "analyzers": {"english": english},
    "charFilters": {"pattern_replace": pattern_replace, "mapping": mapping},
    "tokenFilters": {"limit": limit},
}
