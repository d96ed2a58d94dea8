import { Client } from "@opensearch-project/opensearch";

const [url, index, papers, question] = process.argv.slice(2);
const client = new Client({ node: url });
const steps = {};
const body = (answer) => answer.body;

steps.create = body(await client.indices.create({ index, body: { mappings: { properties: { group: { type: "keyword" } } } } }));
steps.index = body(await client.index({ index, id: "first", body: { text: "one document", group: "a" }, refresh: true }));
const lines = [];
for (let n = 0; n < 20; n += 1) lines.push({ index: { _index: index, _id: `b${n}` } }, { text: `document number ${n}`, n, group: n % 2 ? "odd" : "even" });
steps.bulk = body(await client.bulk({ refresh: true, body: lines }));
steps.get = body(await client.get({ index, id: "b3" }));
steps.search = body(await client.search({ index, body: { query: { match: { text: "number 7" } }, size: 3, aggs: { groups: { terms: { field: "group" } } } } }));
const seen = [];
let page = body(await client.search({ index, scroll: "1m", size: 7, body: { query: { match_all: {} }, sort: ["_doc"] } }));
while (page.hits.hits.length) {
  seen.push(page.hits.hits.map((hit) => hit._id));
  page = body(await client.scroll({ scroll_id: page._scroll_id, scroll: "1m" }));
}
steps.scroll = seen;
steps.clear = body(await client.clearScroll({ scroll_id: page._scroll_id }));
steps.delete_by_query = body(await client.deleteByQuery({ index, refresh: true, body: { query: { term: { group: "odd" } } } }));
steps.alias = body(await client.indices.putAlias({ index, name: `${index}-alias` }));
steps.count = body(await client.count({ index: `${index}-alias` }));
steps.msearch = body(await client.msearch({ body: [{ index }, { query: { match: { text: "document" } }, size: 1 }, { index }, { query: { term: { group: "a" } } }] }));
try {
  await client.get({ index, id: "nowhere" });
} catch (error) {
  steps.missing = { status: error.statusCode, body: error.meta.body };
}
const found = body(await client.search({ index: papers, body: { query: { match: { text: question } } } }));
steps.delete = body(await client.indices.delete({ index }));
console.log(JSON.stringify({ steps, hits: found.hits.hits.map((hit) => hit._id) }));
