"""Latent terms in other frameworks, one module for each.

latent_index    LatentIndex: an index in memory, with the scores of an engine
scikit_learn    LatentTermsVectorizer (extra `scikit-learn`)
langchain       LatentTermsRetriever: searches, adds, deletes (extra `langchain`)
llama_index     LatentTermsRetriever (extra `llama-index`)
haystack        LatentTermsRetriever over an OpenSearchDocumentStore (extra `haystack`)
mcp             a server of the Model Context Protocol (extra `mcp`)

Each module imports its framework itself; nothing is imported here.
"""
