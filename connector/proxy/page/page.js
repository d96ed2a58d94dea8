// The search page. Text of documents becomes text nodes only; nothing is parsed as HTML.
"use strict";

const NAMES = { words: "Words", latent: "Latent terms", hybrid: "Hybrid" };
const ABOUT = {
  words: "the engine's search for the words",
  latent: "by meaning alone",
  hybrid: "words and meaning together",
};
const KINDS = { word: "words", latent: "latents", other: "other" };
// Hits whose passages are asked for at once.
const GROUP = 5;
// Signs that are not seen, or change the order of those around them: copied code must not hide any.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

const by = (id) => document.getElementById(id);
let authorization = "";
let shown = null; // the last answer, with what was asked
let running = null; // aborts the last search
let afterLogin = null;

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

// A text of a document: it keeps its direction to itself.
const foreign = (text, properties = {}) => make("bdi", { dir: "auto", ...properties }, text);
const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
const number = (value) => value.toLocaleString("en");
const key = (hit) => JSON.stringify([hit.index, hit.id]);

function say(text) {
  by("status").textContent = text;
}

function fail(text) {
  by("error").hidden = !text;
  by("error").textContent = text || "";
}

async function ask(path, content, signal) {
  const used = authorization;
  const headers = used ? { Authorization: used } : {};
  let answer;
  try {
    answer = await fetch(`api/${path}`, {
      method: content ? "POST" : "GET",
      headers: content ? { ...headers, "Content-Type": "application/json" } : headers,
      body: content ? JSON.stringify(content) : undefined,
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("This server does not answer; is it still running?");
  }
  let found = null;
  try {
    found = await answer.json();
  } catch {
    // Not of the page's API.
  }
  if (!answer.ok || found === null) {
    const reason = found && typeof found.error === "string" ? found.error : "";
    const error = new Error(reason ? sentence(reason) : `This server answered ${answer.status}.`);
    error.status = answer.status;
    error.beforeLogin = used !== authorization; // somebody has logged in or out meanwhile
    throw error;
  }
  return found;
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

// What is asked, as the fields have it; throws if the filter is no JSON.
function asked() {
  const filter = by("filter").value.trim();
  let clause = null;
  if (filter) {
    try {
      clause = JSON.parse(filter);
    } catch (error) {
      by("more").open = true;
      by("filter").focus();
      throw new Error(`The filter is not JSON: ${error.message}.`);
    }
  }
  return {
    index: by("index").value.trim(),
    question: by("question").value.trim(),
    size: Number(by("size").value),
    form: by("form").value,
    filter: clause,
  };
}

function address() {
  const parts = new URLSearchParams({ index: by("index").value.trim(), q: by("question").value.trim() });
  if (by("size").value !== "10") parts.set("size", by("size").value);
  if (by("form").value !== "auto") parts.set("form", by("form").value);
  if (by("filter").value.trim()) parts.set("filter", by("filter").value.trim());
  return `?${parts}`;
}

// Fill in the fields from the address; returns whether there is a question.
function readAddress() {
  const parts = new URLSearchParams(location.search);
  by("index").value = parts.get("index") || by("index").value;
  by("question").value = parts.get("q") || "";
  for (const [id, otherwise] of [["size", "10"], ["form", "auto"]]) {
    by(id).value = parts.get(id) || otherwise;
    if (!by(id).value) by(id).value = otherwise;
  }
  by("filter").value = parts.get("filter") || "";
  by("more").open = Boolean(by("filter").value) || by("more").open;
  return Boolean(by("question").value && by("index").value);
}

async function search() {
  if (running) running.abort();
  running = new AbortController();
  const { signal } = running;
  fail("");
  document.body.removeAttribute("data-done");
  try {
    const request = asked();
    if (!request.index || !request.question) throw new Error("Write a question, and name an index.");
    say("Searching…");
    by("answer").setAttribute("aria-busy", "true");
    const found = await ask("search", request, signal);
    shown = { request, found };
    show();
    await addPassages(request, signal);
  } catch (error) {
    if (error.name === "AbortError") return;
    say("");
    fail(error.message);
    if (error.status === 401) openLogin(search);
  }
  by("answer").removeAttribute("aria-busy");
  document.body.dataset.done = "true"; // for tests and scripts that drive the page
}

function show() {
  const { found, request } = shown;
  const places = {};
  for (const [name, column] of Object.entries(found.columns)) {
    places[name] = new Map(column.hits.map((hit, rank) => [key(hit), rank + 1]));
  }
  by("columns").replaceChildren(
    ...Object.entries(found.columns).map(([name, column]) => columnOf(name, column, places)),
  );
  const about = [
    `Index ${found.searched.join(", ")}, model ${found.model}, questions encoded ${found.questions.startsWith("by ") ? "" : "by the "}${found.questions}.`,
  ];
  by("about").replaceChildren(foreign(about.join(" ")));
  by("notes").replaceChildren(...found.notes.map((note) => make("li", {}, foreign(note))));
  by("welcome").hidden = true;
  by("answer").hidden = false;
  document.title = `${request.question.replace(UNSEEN, " ")} – search by meaning`;
  const fresh = [...places.hybrid.keys()].filter((one) => !places.words.has(one)).length;
  const counts = Object.entries(found.columns).map(([name, column]) => `${column.hits.length} by ${name}`);
  say(`Hits: ${counts.join(", ")}. ${fresh} of hybrid are not among those of words.`);
  showRequest();
}

function columnOf(name, column, places) {
  const hits = column.hits.map((hit, place) => hitOf(name, hit, place + 1, places));
  const took = column.took === null ? "" : `, ${column.took} ms`;
  const form = column.form === name ? "" : `, ${column.form.replaceAll("_", " ")}`;
  return make(
    "section",
    { class: "column", id: `column-${name}`, "aria-labelledby": `title-${name}`, tabindex: "-1" },
    make(
      "header",
      {},
      make("h2", { id: `title-${name}` }, NAMES[name]),
      make("p", { class: "help" }, `${ABOUT[name]}${form}${took}`),
    ),
    hits.length ? make("ol", {}, ...hits) : make("p", {}, "No hits."),
  );
}

// How the place of a hit differs: from that in words, and in words from that in hybrid.
function moved(name, hit, rank, places) {
  const mark = (kind, sign, words) =>
    make("span", { class: `moved ${kind}` }, make("span", { "aria-hidden": "true" }, sign), make("span", { class: "sr" }, words));
  if (name === "words") {
    const other = places.hybrid.get(key(hit));
    if (other === undefined) return mark("out", "not in hybrid", "not among the hits of hybrid");
    return mark("same-place", `hybrid: ${other}`, `at ${other} in hybrid`);
  }
  const before = places.words.get(key(hit));
  if (before === undefined) return mark("new", "new", "new: not among the hits of words");
  if (before > rank) return mark("up", `↑ ${before - rank}`, `up ${before - rank} from ${before} in words`);
  if (before < rank) return mark("down", `↓ ${rank - before}`, `down ${rank - before} from ${before} in words`);
  return mark("same-place", "=", "the same place as in words");
}

function hitOf(name, hit, rank, places) {
  const [title, body] = titleAndText(hit);
  const panel = make("div", { class: "why-panel", hidden: true });
  const why = make("button", { type: "button", class: "quiet why", "aria-expanded": "false" }, "Why?");
  why.append(make("span", { class: "sr" }, ` hit ${rank} of ${name}`));
  why.addEventListener("click", () => toggleWhy(name, hit, why, panel));
  const others = hit.fields.filter((one) => !one.encoded);
  const item = make(
    "li",
    { class: "hit", "data-key": key(hit), "data-id": hit.id },
    make("h3", {}, `${rank}. `, foreign(title)),
    make(
      "p",
      { class: "facts" },
      moved(name, hit, rank, places),
      make("span", {}, `score ${hit.score === null ? "–" : hit.score.toFixed(3)}`),
      foreign(hit.id, { title: hit.id }),
    ),
    make("div", { class: "texts" }, body === null ? "" : textOf(body)),
    why,
    panel,
    others.length
      ? make(
          "details",
          {},
          make("summary", {}, "Other fields"),
          ...others.map((one) => make("p", { class: "field" }, foreign(one.name), ": ", foreign(one.text), cutNote(one))),
        )
      : null,
  );
  const mark = (on) => {
    for (const other of document.querySelectorAll(".hit")) {
      other.classList.toggle("same", on && other.dataset.key === item.dataset.key);
    }
  };
  for (const [event, on] of [["pointerenter", true], ["pointerleave", false], ["focusin", true], ["focusout", false]]) {
    item.addEventListener(event, () => mark(on));
  }
  return item;
}

// The first text field is the title, if there are several; else the id is.
function titleAndText(hit) {
  const texts = hit.fields.filter((one) => one.encoded);
  if (texts.length > 1) return [texts[0].text.slice(0, 300), texts[1]];
  return [hit.id, texts[0] || null];
}

function textOf(one) {
  return make("p", { class: "text", dir: "auto" }, foreign(one.text), cutNote(one));
}

function cutNote(one) {
  const more = one.length - one.text.length;
  return more > 0 ? make("span", { class: "cut" }, ` (${number(more)} more characters)`) : "";
}

// Passages with marks replace the beginnings of texts, a few hits at a time.
async function addPassages(request, signal) {
  const hits = new Map();
  const columns = Object.values(shown.found.columns);
  for (let rank = 0; rank < request.size; rank += 1) {
    for (const column of columns) {
      const hit = column.hits[rank];
      if (hit) hits.set(key(hit), { index: hit.index, id: hit.id });
    }
  }
  const every = [...hits.values()];
  for (let start = 0; start < every.length; start += GROUP) {
    const some = every.slice(start, start + GROUP);
    let found;
    try {
      found = await ask("passages", { ...request, hits: some }, signal);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      by("notes").append(make("li", {}, `Passages are not marked: ${error.message}`));
      return;
    }
    for (const passage of found.passages) showPassages(passage);
  }
}

function showPassages(passage) {
  for (const item of document.querySelectorAll(".hit")) {
    if (item.dataset.key !== key(passage)) continue;
    const fields = Object.entries(passage.fields).filter(([, fragments]) => fragments.length);
    const title = shown.found.text_fields.length > 1 ? shown.found.text_fields[0] : null;
    const wanted = fields.filter(([name]) => name !== title);
    if (!wanted.length) continue;
    item.querySelector(".texts").replaceChildren(
      ...wanted.flatMap(([, fragments]) =>
        fragments.map((pieces) =>
          make("p", { class: "text passage", dir: "auto" }, make("bdi", { dir: "auto" }, ...pieces.map(([text, marked]) => (marked ? make("mark", {}, text) : text)))),
        ),
      ),
    );
  }
}

async function toggleWhy(column, hit, button, panel) {
  const open = button.getAttribute("aria-expanded") !== "true";
  button.setAttribute("aria-expanded", String(open));
  panel.hidden = !open;
  if (!open || panel.childElementCount) return;
  panel.append(make("p", {}, "Asking…"));
  try {
    const found = await ask("explain", { ...shown.request, column, hit });
    panel.replaceChildren(...whyOf(found));
  } catch (error) {
    panel.replaceChildren(make("p", {}, error.message));
  }
}

function whyOf(found) {
  if (!found.matched) return [make("p", {}, "The document does not match any more: it was changed or deleted.")];
  const shares = Object.entries(found.shares).filter(([, share]) => share > 0.0005);
  const bar = make("div", { class: "bar", "aria-hidden": "true" });
  for (const [kind, share] of shares) {
    const part = make("span", { class: `kind-${kind}` });
    part.style.width = `${100 * share}%`;
    bar.append(part);
  }
  const rows = found.contributions.map((item) => {
    const track = make("span", { class: `track kind-${item.kind}`, "aria-hidden": "true" });
    track.style.width = `${Math.max(0, Math.min(100, 100 * item.share))}%`;
    return make(
      "tr",
      {},
      make("td", { class: "share" }, percent(item.share), track),
      make("td", {}, item.latent === null ? foreign(item.term) : latentButton(item.latent, item.label === item.term ? "" : item.label)),
      make("td", { class: "kind" }, KINDS[item.kind].replace(/s$/, "")),
      make("td", { class: "number" }, item.score.toFixed(3)),
    );
  });
  const more = found.more.number ? make("p", { class: "help" }, `and ${found.more.number} more, together ${percent(found.more.share)}`) : null;
  return [
    make("p", {}, `Score ${found.score.toFixed(3)}, ${found.form.replaceAll("_", " ")}:`),
    bar,
    make("ul", { class: "legend" }, ...shares.map(([kind, share]) => make("li", { class: `kind-${kind}` }, `${percent(share)} ${KINDS[kind]}`))),
    make(
      "table",
      {},
      make("caption", { class: "sr" }, "What each word and each latent adds to the score"),
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "share"), make("th", { scope: "col" }, "term"), make("th", { scope: "col" }, "kind"), make("th", { scope: "col", class: "number" }, "score"))),
      make("tbody", {}, ...rows),
    ),
    ...(more ? [more] : []),
  ];
}

function latentButton(latent, label) {
  return make(
    "button",
    { type: "button", class: "term", "data-latent": latent, "aria-haspopup": "dialog", onclick: () => showCard(latent) },
    `f${latent}`,
    label ? " " : "",
    label ? foreign(label) : "",
  );
}

async function showCard(latent) {
  const card = by("card");
  by("card-title").textContent = `Latent ${latent}`;
  by("card-content").replaceChildren(make("p", {}, "Asking…"));
  if (!card.open) card.showModal();
  try {
    const parts = new URLSearchParams({ index: shown.request.index, latent });
    const found = await ask(`latent?${parts}`);
    by("card-title").replaceChildren(`Latent ${latent}: `, foreign(found.label || "no label"));
    by("card-content").replaceChildren(...cardOf(found));
  } catch (error) {
    by("card-content").replaceChildren(make("p", {}, error.message));
  }
  by("card-title").focus();
}

function cardOf(found) {
  const most = Math.max(...found.words.map((one) => one.weight), 1);
  const words = found.words.map((one) => {
    const track = make("span", { class: "track kind-latent", "aria-hidden": "true" });
    track.style.width = `${(100 * one.weight) / most}%`;
    return make("tr", {}, make("td", {}, foreign(one.word)), make("td", { class: "share" }, one.weight.toFixed(0), track));
  });
  const none = found.has_table ? "No word by itself fires it." : "There is no table of words here.";
  return [
    make("p", {}, `It is in ${number(found.documents)} of ${number(found.of)} documents of the index (model ${found.model}).`),
    make("h4", {}, "Words that fire it"),
    words.length
      ? make("table", {}, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "word"), make("th", { scope: "col" }, "weight"))), make("tbody", {}, ...words))
      : make("p", { class: "help" }, none),
    make("h4", {}, "Neighbours: latents of the same words"),
    found.neighbours.length
      ? make("ul", { class: "chips" }, ...found.neighbours.map((one) => make("li", {}, latentButton(one.latent, one.label))))
      : make("p", { class: "help" }, found.has_table ? "None." : "There is no table of words here."),
    make("h4", {}, "Documents that have most of it"),
    make(
      "ul",
      { class: "plain" },
      ...found.hits.map((hit) => {
        const [title, body] = titleAndText(hit);
        return make("li", {}, foreign(title), body ? make("p", { class: "text help", dir: "auto" }, foreign(body.text.slice(0, 200)), body.length > 200 ? "…" : "") : "");
      }),
    ),
  ];
}

// The requests to copy. JSON and code have no sign in them that is not seen.
const seen = (text) => text.replace(UNSEEN, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);
const written = (value) => seen(JSON.stringify(value, null, 2));
const inShell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function inPython(value, indent = "") {
  const inner = `${indent}    `;
  const list = (open, items, close) => (items.length ? `${open}\n${items.map((item) => `${inner}${item},\n`).join("")}${indent}${close}` : open + close);
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return list("[", value.map((item) => inPython(item, inner)), "]");
  if (typeof value === "object") {
    return list("{", Object.entries(value).map(([name, item]) => `${seen(JSON.stringify(name))}: ${inPython(item, inner)}`), "}");
  }
  return seen(JSON.stringify(value));
}

function requestText(column, side, language) {
  const { request, found } = shown;
  const body = side === "engine" ? found.columns[column].body : found.plain;
  const path = `${encodeURIComponent(request.index).replaceAll("%2C", ",")}/_search`;
  const form = column === "words" ? null : found.columns[column].form;
  const header = side === "engine" || column === "words" ? ["X-Latent", "off"] : ["X-Latent-Form", form];
  const here = location.origin;
  if (language === "console") return `POST ${path}\n${written(body)}`;
  if (language === "python") {
    const login = authorization ? '\n    headers={"Authorization": os.environ["AUTHORIZATION"]},' : "";
    return [
      ...(authorization ? ["import os", ""] : []),
      "from opensearchpy import OpenSearch",
      "",
      login ? `client = OpenSearch(\n    "${here}",${login}\n)` : `client = OpenSearch("${here}")`,
      "answer = client.search(",
      `    index=${seen(JSON.stringify(request.index))},`,
      `    headers=${inPython(Object.fromEntries([header]), "    ")},`,
      `    body=${inPython(body, "    ")},`,
      ")",
    ].join("\n");
  }
  const login = authorization ? ' \\\n  -H "Authorization: $AUTHORIZATION"' : "";
  return `curl -sS ${inShell(`${here}/${path}`)}${login} \\\n  -H 'Content-Type: application/json' -H '${header.join(": ")}' \\\n  --data-binary ${inShell(written(body))}`;
}

function showRequest() {
  if (!shown) return;
  const column = by("request-column").value;
  const [side, language] = [by("request-side").value, by("request-language").value];
  by("request-text").textContent = requestText(column, side, language);
  const application = {
    words: "The proxy passes it on as it is, because of its header X-Latent: off.",
    latent: "The proxy rewrites it on the way; the header chooses the form.",
    hybrid: "The proxy rewrites it on the way; the header chooses the form, and may be left out.",
  };
  const engine = "It can also be sent to the engine itself: nothing in it needs the proxy.";
  const console = "The console sends no headers of its own, so the proxy rewrites what words ask.";
  by("request-help").textContent = side === "engine" ? engine : language === "console" ? console : application[column];
}

async function copy() {
  const text = by("request-text").textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const range = document.createRange();
    range.selectNodeContents(by("request-text"));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    document.execCommand("copy");
  }
  say("Copied.");
}

function openLogin(then) {
  // The list of indices is asked for after each login anyway.
  afterLogin = then || afterLogin;
  if (!by("login").open) by("login").showModal();
}

function logIn() {
  const header = by("header").value.trim();
  const bytes = new TextEncoder().encode(`${by("user").value}:${by("password").value}`);
  authorization = header || (by("user").value ? `Basic ${btoa(String.fromCharCode(...bytes))}` : "");
  by("open-login").textContent = authorization ? "Logged in" : "Log in";
  by("password").value = "";
  by("header").value = "";
  by("login").close();
  listIndices();
  if (afterLogin) afterLogin();
  afterLogin = null;
}

async function listIndices() {
  try {
    const found = await ask("indices");
    by("indices").replaceChildren(...found.indices.map((one) => make("option", { value: one.name }, one.model)));
    if (!by("index").value && found.indices.length) by("index").value = found.indices[0].name;
    if (!found.indices.length) say("There is no index with latent terms that may be seen here.");
  } catch (error) {
    if (error.beforeLogin) return; // asked again at the login
    // The name can be typed; a search says what is wrong.
    if (error.status === 401) openLogin(null);
    else if (error.status !== 403) fail(error.message);
  }
}

by("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (address() !== location.search) history.pushState(null, "", address());
  search();
});
addEventListener("popstate", () => {
  if (readAddress()) search();
});
for (const id of ["request-column", "request-side", "request-language"]) by(id).addEventListener("change", showRequest);
by("copy").addEventListener("click", copy);
by("open-login").addEventListener("click", () => openLogin(null));
by("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  logIn();
});
by("log-out").addEventListener("click", () => {
  by("user").value = by("password").value = by("header").value = "";
  logIn();
});
for (const button of document.querySelectorAll(".close")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}
if (readAddress()) search();
listIndices();
