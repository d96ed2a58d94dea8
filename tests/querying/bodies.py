"""Search requests as applications have them, page by page of the query language's documentation.

Each has the paths of the clauses that are rewritten in it: all others must stay as they are. The
index they are for has the docstrings of the standard library as `title` and `text`, and `year`,
`tags`, `votes`, `published`, `place`, `comments` (nested) and `relation` (join).
"""

from __future__ import annotations

from typing import Any

QUESTION = "find files whose names look like a pattern"
OTHER = "an error is raised when a value is missing"

MATCH = {"match": {"text": QUESTION}}
TITLE = {"match": {"title": {"query": OTHER, "boost": 2}}}
ALSO = {"match": {"text": OTHER}}
RECENT = {"range": {"year": {"gte": 2005}}}
TAGGED = {"term": {"tags.keyword": "b"}}
LIKED = {"votes": {"terms": {"field": "votes"}}}

# Boosts of the clauses that are rewritten, in the bodies in which one is not 1.
BOOSTS = {
    "match, with options": [3],
    "multi_match, best_fields": [2],
    "multi_match, some fields": [2],
    "query_string, as a framework writes it": [1.5],
    "query_string, default_field, and another field with a boost": [2],
    "query_string, escaped": [2],
    "simple_query_string, words": [1.5],
    "simple_query_string, plus, bar and a phrase": [3],
    "bool": [1, 2],
    "bool, at least two": [1, 2],
    "bool in bool": [1, 2, 2],
    "dis_max": [1, 2],
    "has_child": [2],
    "has_parent": [2],
    "highlight of the query's words": [1, 2],
    "rescore, several": [1, 2],
    "a shop's search": [3],
}

# Name → request body, paths of the clauses that are rewritten.
BODIES: dict[str, tuple[dict[str, Any], list[str]]] = {
    # Full-text queries
    "match": ({"query": MATCH}, ["query.match"]),
    "match, with options": (
        {
            "query": {
                "match": {
                    "text": {
                        "query": QUESTION,
                        "boost": 3,
                        "_name": "asked",
                        "analyzer": "simple",
                        "fuzziness": "AUTO",
                        "prefix_length": 1,
                        "max_expansions": 10,
                        "lenient": True,
                        "zero_terms_query": "none",
                    }
                }
            }
        },
        ["query.match"],
    ),
    "match, operator and": (
        {"query": {"match": {"text": {"query": "name of a file", "operator": "and"}}}},
        ["query.match"],
    ),
    "match, minimum_should_match": (
        {"query": {"match": {"text": {"query": QUESTION, "minimum_should_match": "2<75%"}}}},
        ["query.match"],
    ),
    "match on a field that feeds nothing": ({"query": {"match": {"tags": "b"}}}, []),
    "match on a field that is not there": ({"query": {"match": {"nowhere": QUESTION}}}, []),
    "match on a keyword": ({"query": {"match": {"title.keyword": "re.search"}}}, []),
    "match of a number": ({"query": {"match": {"year": 2005}}}, []),
    "match of nothing": ({"query": {"match": {"text": ""}}}, []),
    "match of stop words": ({"query": {"match": {"text": "the of and"}}}, ["query.match"]),
    "match_bool_prefix": (
        {"query": {"match_bool_prefix": {"text": "find files whose na"}}},
        ["query.match_bool_prefix"],
    ),
    "match_phrase": ({"query": {"match_phrase": {"text": "regular expression"}}}, []),
    "match_phrase_prefix": ({"query": {"match_phrase_prefix": {"text": "regular ex"}}}, []),
    "multi_match, best_fields": (
        {
            "query": {
                "multi_match": {
                    "query": QUESTION,
                    "fields": ["title^3", "text"],
                    "tie_breaker": 0.3,
                }
            }
        },
        ["query.multi_match"],
    ),
    "multi_match, most_fields": (
        {
            "query": {
                "multi_match": {"query": OTHER, "type": "most_fields", "fields": ["t*", "words"]}
            }
        },
        ["query.multi_match"],
    ),
    "multi_match, cross_fields": (
        {
            "query": {
                "multi_match": {
                    "query": "search a pattern",
                    "type": "cross_fields",
                    "fields": ["title", "text"],
                    "operator": "and",
                }
            }
        },
        ["query.multi_match"],
    ),
    "multi_match, phrase": (
        {
            "query": {
                "multi_match": {
                    "query": "regular expression",
                    "type": "phrase",
                    "fields": ["title", "text"],
                }
            }
        },
        [],
    ),
    "multi_match, phrase_prefix": (
        {
            "query": {
                "multi_match": {"query": "regular ex", "type": "phrase_prefix", "fields": ["text"]}
            }
        },
        [],
    ),
    "multi_match, bool_prefix": (
        {"query": {"multi_match": {"query": "find f", "type": "bool_prefix", "fields": ["title"]}}},
        ["query.multi_match"],
    ),
    "multi_match, some fields": (
        {"query": {"multi_match": {"query": OTHER, "fields": ["tags", "text^2", "comments.text"]}}},
        ["query.multi_match"],
    ),
    "multi_match, no fields": (
        {"query": {"multi_match": {"query": OTHER, "lenient": True}}},
        ["query.multi_match"],
    ),
    "multi_match, other fields": (
        {"query": {"multi_match": {"query": "a b", "fields": ["tags", "nowhere"]}}},
        [],
    ),
    "combined_fields": (
        {"query": {"combined_fields": {"query": QUESTION, "fields": ["title", "text"]}}},
        ["query.combined_fields"],
    ),
    "query_string, words": (
        {"query": {"query_string": {"query": "files and names", "default_field": "text"}}},
        ["query.query_string"],
    ),
    "query_string, all fields": (
        {"query": {"query_string": {"query": "files that look like patterns"}}},
        ["query.query_string"],
    ),
    "query_string, operators": (
        {"query": {"query_string": {"query": "files AND (names OR title:search)"}}},
        ["query.query_string"],
    ),
    "query_string, as a framework writes it": (
        {
            "query": {
                "bool": {
                    "must": [
                        {
                            "query_string": {
                                "query": "(name AND of AND file)",
                                "fields": ["title^2", "text"],
                                "default_operator": "AND",
                                "analyze_wildcard": True,
                            }
                        }
                    ],
                    "filter": [RECENT],
                }
            }
        },
        ["query.bool.must[0].query_string"],
    ),
    "query_string, a question": (
        {"query": {"query_string": {"query": "which file is it?", "fields": ["text"]}}},
        ["query.query_string"],
    ),
    "query_string, words that must not match, and a phrase": (
        {
            "query": {
                "query_string": {
                    "query": 'file -socket !thread NOT (a OR "the end") "is a"~3',
                    "fields": ["text"],
                }
            }
        },
        ["query.query_string"],
    ),
    "query_string, default_field, and another field with a boost": (
        {"query": {"query_string": {"query": "title:name^3 || file", "default_field": "text"}}},
        ["query.query_string"],
    ),
    "query_string, words of other fields": (
        {"query": {"query_string": {"query": "file AND tags:b OR year:2005", "fields": ["text"]}}},
        ["query.query_string"],
    ),
    "query_string, escaped": (
        {
            "query": {
                "query_string": {"query": "a file (name)/path: [it", "escape": True, "boost": 2}
            }
        },
        ["query.query_string"],
    ),
    "query_string, two under a bool": (
        {
            "query": {
                "bool": {
                    "should": [
                        {"query_string": {"query": "file +name", "fields": ["text"]}},
                        {"query_string": {"query": "title:name", "default_field": "year"}},
                        TAGGED,
                    ]
                }
            },
            "min_score": 0.1,
        },
        [
            "query.bool.should[0].query_string",
            "query.bool.should[1].query_string",
        ],
    ),
    "query_string, a range": (
        {"query": {"query_string": {"query": "file AND year:[2001 TO 2005]"}}},
        [],
    ),
    "query_string, a fuzzy word": (
        {"query": {"query_string": {"query": "serach~ file", "fields": ["text"]}}},
        [],
    ),
    "query_string, a regular expression": (
        {"query": {"query_string": {"query": "/patt.*/ file", "fields": ["text"]}}},
        [],
    ),
    "query_string, a phrase": (
        {"query": {"query_string": {"query": '"is a"', "fields": ["text"]}}},
        [],
    ),
    "query_string, must_not alone": (
        {"query": {"query_string": {"query": "NOT file", "fields": ["text"]}}},
        [],
    ),
    "query_string, wildcard": (
        {"query": {"query_string": {"query": "patt*", "fields": ["text"]}}},
        [],
    ),
    "query_string, default_operator": (
        {
            "query": {
                "query_string": {
                    "query": "file name",
                    "fields": ["title", "text"],
                    "default_operator": "AND",
                }
            }
        },
        ["query.query_string"],
    ),
    "simple_query_string, words": (
        {"query": {"simple_query_string": {"query": OTHER, "fields": ["title^2", "text"]}}},
        ["query.simple_query_string"],
    ),
    "simple_query_string, operators": (
        {"query": {"simple_query_string": {"query": "files +names -dirs", "fields": ["text"]}}},
        [],
    ),
    "simple_query_string, plus, bar and a phrase": (
        {
            "query": {
                "simple_query_string": {"query": 'file +name | "is a" path', "fields": ["text^3"]}
            }
        },
        ["query.simple_query_string"],
    ),
    "simple_query_string, no operators allowed": (
        {"query": {"simple_query_string": {"query": "a + b", "fields": ["text"], "flags": "NONE"}}},
        ["query.simple_query_string"],
    ),
    "intervals": (
        {"query": {"intervals": {"text": {"match": {"query": "regular expression"}}}}},
        [],
    ),
    # Compound queries
    "bool": (
        {
            "query": {
                "bool": {
                    "must": [MATCH],
                    "should": [TITLE, TAGGED],
                    "filter": [RECENT, {"match": {"text": "the file or a value"}}],
                    "must_not": [{"match": {"text": "socket"}}],
                    "boost": 1.5,
                }
            }
        },
        ["query.bool.must[0].match", "query.bool.should[0].match"],
    ),
    "bool, clauses that are no lists": (
        {"query": {"bool": {"must": MATCH, "filter": RECENT, "must_not": TAGGED}}},
        ["query.bool.must.match"],
    ),
    "bool, at least two": (
        {"query": {"bool": {"should": [MATCH, TITLE, TAGGED, RECENT], "minimum_should_match": 2}}},
        ["query.bool.should[0].match", "query.bool.should[1].match"],
    ),
    "bool, two that must match": (
        {"query": {"bool": {"must": [MATCH, ALSO], "filter": [RECENT]}}},
        ["query.bool.must[0].match", "query.bool.must[1].match"],
    ),
    "bool, one that must and one of two": (
        {"query": {"bool": {"must": [MATCH], "should": [ALSO, TAGGED], "minimum_should_match": 1}}},
        ["query.bool.must[0].match", "query.bool.should[0].match"],
    ),
    "bool, boost 0": ({"query": {"bool": {"must": [MATCH], "should": [TAGGED], "boost": 0}}}, []),
    "bool in bool": (
        {
            "query": {
                "bool": {
                    "must": [{"bool": {"should": [MATCH, TITLE]}}],
                    "should": [{"bool": {"must": [TITLE], "filter": [TAGGED], "boost": 2}}],
                    "filter": {"bool": {"should": [RECENT, TAGGED]}},
                }
            }
        },
        [
            "query.bool.must[0].bool.should[0].match",
            "query.bool.must[0].bool.should[1].match",
            "query.bool.should[0].bool.must[0].match",
        ],
    ),
    "bool, filters alone": ({"query": {"bool": {"filter": [MATCH, RECENT]}}}, []),
    "bool, must_not alone": ({"query": {"bool": {"must_not": [MATCH]}}}, []),
    "bool, names": (
        {
            "query": {
                "bool": {
                    "should": [
                        {"match": {"text": {"query": QUESTION, "_name": "by text"}}},
                        {"match": {"title": {"query": QUESTION, "_name": "by title"}}},
                    ],
                    "filter": [{"term": {"year": {"value": 2005, "_name": "year"}}}],
                }
            }
        },
        ["query.bool.should[0].match", "query.bool.should[1].match"],
    ),
    "boosting": (
        {
            "query": {
                "boosting": {
                    "positive": MATCH,
                    "negative": {"match": {"text": "directory"}},
                    "negative_boost": 0.5,
                }
            }
        },
        ["query.boosting.positive.match"],
    ),
    "constant_score": ({"query": {"constant_score": {"filter": MATCH, "boost": 2}}}, []),
    "dis_max": (
        {"query": {"dis_max": {"queries": [MATCH, TITLE, TAGGED], "tie_breaker": 0.7}}},
        ["query.dis_max.queries[0].match", "query.dis_max.queries[1].match"],
    ),
    "function_score": (
        {
            "query": {
                "function_score": {
                    "query": {"bool": {"must": [MATCH], "filter": [RECENT]}},
                    "functions": [
                        {"filter": {"match": {"text": "pattern"}}, "weight": 2},
                        {"gauss": {"published": {"origin": "2010-01-01", "scale": "1000d"}}},
                        {"field_value_factor": {"field": "votes", "modifier": "log1p"}},
                    ],
                    "score_mode": "sum",
                    "boost_mode": "multiply",
                    "max_boost": 10,
                }
            }
        },
        ["query.function_score.query.bool.must[0].match"],
    ),
    "function_score, replaced": (
        {
            "query": {
                "function_score": {
                    "query": MATCH,
                    "field_value_factor": {"field": "votes"},
                    "boost_mode": "replace",
                }
            }
        },
        [],
    ),
    "function_score of all": (
        {"query": {"function_score": {"random_score": {"seed": 3, "field": "votes"}}}},
        [],
    ),
    "script_score": (
        {
            "query": {
                "script_score": {
                    "query": MATCH,
                    "script": {"source": "_score * doc['votes'].value"},
                }
            }
        },
        ["query.script_score.query.match"],
    ),
    "function_score, script_score": (
        {
            "query": {
                "function_score": {
                    "query": MATCH,
                    "functions": [
                        {"script_score": {"script": "doc['votes'].value"}},
                        {"field_value_factor": {"field": "year", "missing": 1}},
                    ],
                    "boost_mode": "sum",
                }
            }
        },
        ["query.function_score.query.match"],
    ),
    # Joining queries
    "nested": (
        {
            "query": {
                "bool": {
                    "must": [MATCH],
                    "should": [
                        {
                            "nested": {
                                "path": "comments",
                                "query": {"match": {"comments.text": "helpful"}},
                                "inner_hits": {},
                            }
                        }
                    ],
                }
            }
        },
        ["query.bool.must[0].match"],
    ),
    "nested, inner_hits and a min_score": (
        {
            "query": {
                "bool": {
                    "must": [{"match": {"text": {"query": QUESTION, "_name": "asked"}}}],
                    "filter": [
                        {
                            "nested": {
                                "path": "comments",
                                "query": {"match": {"comments.text": "helpful"}},
                                "inner_hits": {"size": 1},
                            }
                        }
                    ],
                }
            },
            "min_score": 0.5,
        },
        ["query.bool.must[0].match"],
    ),
    "nested, a filter": (
        {
            "query": {
                "bool": {
                    "must": [MATCH],
                    "filter": [
                        {
                            "nested": {
                                "path": "comments",
                                "query": {"range": {"comments.stars": {"gte": 3}}},
                            }
                        }
                    ],
                }
            }
        },
        ["query.bool.must[0].match"],
    ),
    "nested, bool": (
        {
            "query": {
                "nested": {
                    "path": "comments",
                    "score_mode": "max",
                    "query": {
                        "bool": {
                            "must": [{"match": {"comments.text": "helpful"}}],
                            "filter": [{"range": {"comments.stars": {"gte": 2}}}],
                        }
                    },
                }
            }
        },
        [],
    ),
    "has_child": (
        {"query": {"bool": {"should": [{"has_child": {"type": "review", "query": MATCH}}, TITLE]}}},
        ["query.bool.should[1].match"],
    ),
    "has_parent": (
        {
            "query": {
                "bool": {
                    "should": [{"has_parent": {"parent_type": "paper", "query": MATCH}}, TITLE]
                }
            }
        },
        ["query.bool.should[1].match"],
    ),
    # Term-level, geographic and special queries
    "terms of many kinds": (
        {
            "query": {
                "bool": {
                    "should": [
                        MATCH,
                        {"terms": {"year": [2001, 2002]}},
                        {"prefix": {"title.keyword": "re"}},
                        {"wildcard": {"title.keyword": "*search*"}},
                        {"regexp": {"title.keyword": "re.*"}},
                        {"fuzzy": {"title": {"value": "serach"}}},
                        {"exists": {"field": "votes"}},
                        {"ids": {"values": ["re.search"]}},
                        {"match_all": {"boost": 0.1}},
                    ]
                }
            }
        },
        ["query.bool.should[0].match"],
    ),
    "terms_set": (
        {
            "query": {
                "bool": {
                    "must": [MATCH],
                    "should": [
                        {
                            "terms_set": {
                                "tags.keyword": {
                                    "terms": ["a", "b"],
                                    "minimum_should_match_script": {"source": "1"},
                                }
                            }
                        }
                    ],
                }
            }
        },
        ["query.bool.must[0].match"],
    ),
    "geo_distance": (
        {
            "query": {
                "bool": {
                    "must": MATCH,
                    "filter": {
                        "geo_distance": {"distance": "4000km", "place": {"lat": 10, "lon": 10}}
                    },
                }
            }
        },
        ["query.bool.must.match"],
    ),
    "geo_bounding_box": (
        {
            "query": {
                "bool": {
                    "should": [MATCH],
                    "minimum_should_match": 1,
                    "filter": [
                        {
                            "geo_bounding_box": {
                                "place": {
                                    "top_left": {"lat": 40, "lon": -1},
                                    "bottom_right": {"lat": -1, "lon": 40},
                                }
                            }
                        }
                    ],
                }
            }
        },
        ["query.bool.should[0].match"],
    ),
    "distance_feature": (
        {
            "query": {
                "bool": {
                    "must": MATCH,
                    "should": [
                        {
                            "distance_feature": {
                                "field": "published",
                                "pivot": "900d",
                                "origin": "2010-01-01",
                            }
                        }
                    ],
                }
            }
        },
        ["query.bool.must.match"],
    ),
    "more_like_this": (
        {"query": {"more_like_this": {"fields": ["text"], "like": QUESTION, "min_term_freq": 1}}},
        [],
    ),
    "script": (
        {
            "query": {
                "bool": {
                    "must": [MATCH],
                    "filter": {"script": {"script": "doc['votes'].value > 3"}},
                }
            }
        },
        ["query.bool.must[0].match"],
    ),
    "wrapper": ({"query": {"wrapper": {"query": "eyJtYXRjaF9hbGwiOiB7fX0="}}}, []),
    "span_near": (
        {
            "query": {
                "span_near": {
                    "clauses": [
                        {"span_term": {"text": "regular"}},
                        {"span_term": {"text": "express"}},
                    ],
                    "slop": 1,
                    "in_order": True,
                }
            }
        },
        [],
    ),
    "match_all": ({"query": {"match_all": {}}}, []),
    "match_none": ({"query": {"match_none": {}}}, []),
    "no query": ({"size": 3}, []),
    # Parts of a request other than its query
    "post_filter": ({"query": MATCH, "post_filter": RECENT}, ["query.match"]),
    "aggregations": (
        {
            "query": {"bool": {"must": [MATCH], "filter": [RECENT]}},
            "aggs": {
                "years": {
                    "terms": {"field": "year"},
                    "aggs": {"mean": {"avg": {"field": "votes"}}},
                },
                "about names": {"filter": {"match": {"text": "names"}}},
                "all": {"global": {}, "aggs": LIKED},
            },
        },
        ["query.bool.must[0].match"],
    ),
    "aggregations alone": ({"size": 0, "query": MATCH, "aggregations": LIKED}, ["query.match"]),
    "count": ({"size": 0, "track_total_hits": True, "query": MATCH}, ["query.match"]),
    "exact totals": ({"track_total_hits": True, "query": MATCH}, ["query.match"]),
    "totals to 5": ({"track_total_hits": 5, "query": MATCH}, ["query.match"]),
    "suggest": (
        {
            "query": MATCH,
            "suggest": {"typo": {"text": "serach patern", "term": {"field": "text"}}},
        },
        ["query.match"],
    ),
    "highlight of the query's words": (
        {
            "query": {"bool": {"should": [MATCH, TITLE], "filter": [RECENT]}},
            "highlight": {"fields": {"text": {}, "title": {"number_of_fragments": 0}}},
        },
        ["query.bool.should[0].match", "query.bool.should[1].match"],
    ),
    "highlight": (
        {
            "query": MATCH,
            "highlight": {
                "fields": {
                    "text": {"highlight_query": {"match": {"text": "pattern"}}},
                    "title": {"number_of_fragments": 0},
                }
            },
        },
        ["query.match"],
    ),
    "rescore": (
        {
            "query": MATCH,
            "rescore": {
                "window_size": 30,
                "query": {
                    "rescore_query": {"match_phrase": {"text": {"query": QUESTION, "slop": 2}}},
                    "query_weight": 0.7,
                    "rescore_query_weight": 1.2,
                },
            },
        },
        ["query.match"],
    ),
    "rescore, several": (
        {
            "query": MATCH,
            "rescore": [
                {"window_size": 50, "query": {"rescore_query": TITLE, "score_mode": "max"}},
                {
                    "window_size": 10,
                    "query": {
                        "rescore_query": {
                            "function_score": {"field_value_factor": {"field": "votes"}}
                        }
                    },
                },
            ],
        },
        ["query.match", "rescore[0].query.rescore_query.match"],
    ),
    "sort by a field": ({"query": MATCH, "sort": [{"year": "desc"}, "_score"]}, ["query.match"]),
    "sort by score": ({"query": MATCH, "sort": ["_score"]}, ["query.match"]),
    "sort by score, then a field": (
        {"query": MATCH, "sort": [{"_score": {"order": "desc"}}, {"votes": "asc"}]},
        ["query.match"],
    ),
    "sort by a script": (
        {
            "query": MATCH,
            "sort": {"_script": {"type": "number", "script": "doc['votes'].value", "order": "asc"}},
        },
        ["query.match"],
    ),
    "search_after": (
        {"query": MATCH, "sort": [{"year": "asc"}, {"votes": "asc"}], "search_after": [2003, 2]},
        ["query.match"],
    ),
    "paging": ({"query": MATCH, "from": 4, "size": 4}, ["query.match"]),
    "collapse": (
        {"query": MATCH, "collapse": {"field": "year", "inner_hits": {"name": "same", "size": 2}}},
        ["query.match"],
    ),
    "min_score": ({"query": MATCH, "min_score": 1.5}, ["query.match"]),
    "fields, not the source": (
        {
            "query": MATCH,
            "_source": False,
            "fields": ["title", {"field": "published", "format": "yyyy"}],
            "docvalue_fields": ["votes"],
            "script_fields": {"twice": {"script": "doc['votes'].value * 2"}},
        },
        ["query.match"],
    ),
    "source, some of it": ({"query": MATCH, "_source": ["title"]}, ["query.match"]),
    "stored_fields": ({"query": MATCH, "stored_fields": ["title"]}, ["query.match"]),
    "options of the search": (
        {
            "query": MATCH,
            "explain": True,
            "version": True,
            "seq_no_primary_term": True,
            "track_scores": True,
            "timeout": "10s",
            "terminate_after": 1000,
            "stats": ["group"],
            "indices_boost": [{"*": 1.2}],
        },
        ["query.match"],
    ),
    "a shop's search": (
        {
            "query": {
                "function_score": {
                    "query": {
                        "bool": {
                            "must": {
                                "dis_max": {
                                    "queries": [
                                        {
                                            "multi_match": {
                                                "query": OTHER,
                                                "fields": ["title^5", "text", "tags^2"],
                                                "fuzziness": "AUTO:4,8",
                                                "minimum_should_match": "2<-1",
                                            }
                                        },
                                        {"match_phrase": {"title": {"query": OTHER, "boost": 9}}},
                                    ]
                                }
                            },
                            "should": [{"term": {"tags.keyword": {"value": "a", "boost": 3}}}],
                            "filter": [RECENT, {"exists": {"field": "place"}}],
                        }
                    },
                    "functions": [{"script_score": {"script": "1 + doc['votes'].value"}}],
                    "boost_mode": "sum",
                }
            },
            "aggs": LIKED,
            "highlight": {"fields": {"text": {}}},
            "from": 0,
            "size": 24,
            "_source": {"includes": ["title", "votes"]},
        },
        ["query.function_score.query.bool.must.dis_max.queries[0].multi_match"],
    ),
}

# Fields of the index for these bodies, besides those of ingest.
PROPERTIES = {
    "title": {
        "type": "text",
        "analyzer": "english",
        "copy_to": "words",
        "fields": {"keyword": {"type": "keyword"}, "plain": {"type": "text"}},
    },
    "tags": {"type": "text", "fields": {"keyword": {"type": "keyword"}}},
    "year": {"type": "integer"},
    "votes": {"type": "integer"},
    "published": {"type": "date"},
    "place": {"type": "geo_point"},
    "comments": {
        "type": "nested",
        "properties": {"text": {"type": "text"}, "stars": {"type": "integer"}},
    },
    "relation": {"type": "join", "relations": {"paper": "review"}},
}


def rows(documents: list[dict[str, str]]) -> list[dict[str, Any]]:
    comments = ["helpful and short", "not helpful at all", "a mistake in it"]
    return [
        {
            **document,
            "year": 2000 + i % 12,
            "votes": 1 + i % 7,
            "tags": ["a", "b", "c"][: 1 + i % 3],
            "published": f"{2000 + i % 12}-0{1 + i % 9}-01",
            "place": {"lat": i % 60, "lon": i % 60},
            "comments": [{"text": comments[i % 3], "stars": 1 + i % 5}],
        }
        for i, document in enumerate(documents)
    ]
