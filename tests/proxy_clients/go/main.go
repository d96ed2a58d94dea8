// Requests of opensearch-go, as an application makes them.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/opensearch-project/opensearch-go/v4"
	"github.com/opensearch-project/opensearch-go/v4/opensearchapi"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func raw(value any) json.RawMessage {
	written, err := json.Marshal(value)
	must(err)
	return written
}

func main() {
	url, index, papers, question := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	client, err := opensearchapi.NewClient(opensearchapi.Config{Client: opensearch.Config{Addresses: []string{url}}})
	must(err)
	ctx := context.Background()
	steps := map[string]json.RawMessage{}

	created, err := client.Indices.Create(ctx, opensearchapi.IndicesCreateReq{
		Index: index,
		Body:  strings.NewReader(`{"mappings": {"properties": {"group": {"type": "keyword"}}}}`),
	})
	must(err)
	steps["create"] = raw(created)

	first, err := client.Index(ctx, opensearchapi.IndexReq{
		Index: index, DocumentID: "first",
		Body:   strings.NewReader(`{"text": "one document", "group": "a"}`),
		Params: opensearchapi.IndexParams{Refresh: "true"},
	})
	must(err)
	steps["index"] = raw(first)

	var lines strings.Builder
	for n := 0; n < 20; n++ {
		group := []string{"even", "odd"}[n%2]
		fmt.Fprintf(&lines, "{\"index\": {\"_index\": %q, \"_id\": \"b%d\"}}\n", index, n)
		fmt.Fprintf(&lines, "{\"text\": \"document number %d\", \"n\": %d, \"group\": %q}\n", n, n, group)
	}
	bulk, err := client.Bulk(ctx, opensearchapi.BulkReq{
		Body:   strings.NewReader(lines.String()),
		Params: opensearchapi.BulkParams{Refresh: "true"},
	})
	must(err)
	steps["bulk"] = raw(bulk)

	search := func(name, body string) *opensearchapi.SearchResp {
		found, err := client.Search(ctx, &opensearchapi.SearchReq{Indices: []string{name}, Body: strings.NewReader(body)})
		must(err)
		return found
	}
	steps["search"] = raw(search(index, `{"query": {"match": {"text": "number 7"}}, "size": 3, "aggs": {"groups": {"terms": {"field": "group"}}}}`))

	page, err := client.Search(ctx, &opensearchapi.SearchReq{
		Indices: []string{index},
		Body:    strings.NewReader(`{"query": {"match_all": {}}, "sort": ["_doc"], "size": 7}`),
		Params:  opensearchapi.SearchParams{Scroll: time.Minute},
	})
	must(err)
	hits, scroll := page.Hits.Hits, *page.ScrollID
	seen := [][]string{}
	for len(hits) > 0 {
		ids := []string{}
		for _, hit := range hits {
			ids = append(ids, hit.ID)
		}
		seen = append(seen, ids)
		next, err := client.Scroll.Get(ctx, opensearchapi.ScrollGetReq{
			ScrollID: scroll,
			Params:   opensearchapi.ScrollGetParams{Scroll: time.Minute},
		})
		must(err)
		hits = next.Hits.Hits
		if next.ScrollID != nil {
			scroll = *next.ScrollID
		}
	}
	steps["scroll"] = raw(seen)

	deleted, err := client.Document.DeleteByQuery(ctx, opensearchapi.DocumentDeleteByQueryReq{
		Indices: []string{index},
		Body:    strings.NewReader(`{"query": {"term": {"group": "odd"}}}`),
	})
	must(err)
	steps["delete_by_query"] = raw(deleted.Deleted)

	alias, err := client.Aliases(ctx, opensearchapi.AliasesReq{
		Body: strings.NewReader(fmt.Sprintf(`{"actions": [{"add": {"index": %q, "alias": %q}}]}`, index, index+"-alias")),
	})
	must(err)
	steps["alias"] = raw(alias)
	steps["by_alias"] = raw(search(index+"-alias", `{"query": {"match": {"text": "document"}}, "size": 2}`))

	found := search(papers, string(raw(map[string]any{"query": map[string]any{"match": map[string]any{"text": question}}})))
	ids := []string{}
	for _, hit := range found.Hits.Hits {
		ids = append(ids, hit.ID)
	}
	gone, err := client.Indices.Delete(ctx, opensearchapi.IndicesDeleteReq{Indices: []string{index}})
	must(err)
	steps["delete"] = raw(gone)
	fmt.Println(string(raw(map[string]any{"steps": steps, "hits": ids})))
}
