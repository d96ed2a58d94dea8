"""A server of Elasticsearch 8 or 9, put together from its published jars."""
