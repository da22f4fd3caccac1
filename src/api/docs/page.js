// Lists the paths of /openapi.json and sends requests to them. What is typed stays in this page: nothing is stored.
"use strict";

const $ = (id) => document.getElementById(id);
let described = {};
let operations = new Map();
let current = null;
let running = null;

// A schema behind a reference.
const shape = (schema) => {
  const name = schema?.$ref?.split("/").pop();
  return name ? described.components.schemas[name] : schema;
};

// A description whose lines were broken for an editor.
const prose = (text) => (text ?? "").replace(/(?<!\n)\n(?!\n)/g, " ");

const element = (name, properties, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

async function start() {
  try {
    const answer = await fetch("/openapi.json");
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    described = await answer.json();
  } catch (error) {
    $("paths").replaceChildren(element("p", { textContent: `/openapi.json cannot be read: ${error.message}` }));
    return;
  }
  $("version").textContent = described.info.version;
  for (const [path, item] of Object.entries(described.paths)) {
    if (path.startsWith("/docs")) continue;
    for (const [method, operation] of Object.entries(item)) {
      operations.set(operation.operationId, { path, method: method.toUpperCase(), operation });
    }
  }
  const groups = described.tags.map(({ name, description }) => {
    const links = [...operations].filter(([, { operation }]) => operation.tags.includes(name)).map(([id, { path, method }]) =>
      element("li", {}, element("a", { href: `#${id}`, id: `to-${id}` },
        element("span", { className: "method", textContent: method }), element("span", { textContent: path }))));
    return [element("h2", { textContent: name, title: description }), element("ul", {}, ...links)];
  });
  $("paths").replaceChildren(...groups.flat());
  addEventListener("hashchange", show);
  show();
}

// Shows the operation that the address names.
function show() {
  const id = operations.has(location.hash.slice(1)) ? location.hash.slice(1) : operations.keys().next().value;
  running?.abort();
  current = operations.get(id);
  const { path, method, operation } = current;
  document.querySelectorAll("nav a").forEach((link) => link.removeAttribute("aria-current"));
  $(`to-${id}`).setAttribute("aria-current", "page");
  $("method").textContent = method;
  $("path").textContent = path;
  $("summary").textContent = [operation.summary, prose(operation.description)].filter(Boolean).join("\n");
  $("parameters").replaceChildren(...(operation.parameters ?? []).map(field));
  const schema = shape(operation.requestBody?.content?.["application/json"]?.schema);
  $("body-part").hidden = !schema;
  if (schema) {
    $("body").value = JSON.stringify(schema.example ?? {}, null, 2);
    $("body-note").textContent = prose(schema.description);
    $("stream-part").hidden = !schema.properties?.stream;
    $("stream").checked = false;
  }
  $("ask").hidden = false;
  $("answer").hidden = true;
}

function field(parameter) {
  const id = `parameter-${parameter.name}`;
  const choices = shape(parameter.schema)?.enum;
  const note = prose(parameter.description);
  const input = choices
    ? element("select", { id, name: parameter.name }, ...["", ...choices].map((choice) => element("option", { textContent: choice })))
    : element("input", { id, name: parameter.name, required: parameter.required, autocomplete: "off" });
  if (parameter.required) input.value = parameter.example ?? "";
  else if (!choices) input.placeholder = parameter.example ?? "";
  input.dataset.in = parameter.in;
  input.setAttribute("aria-describedby", `${id}-note`);
  return element("div", { className: "field" }, element("label", { htmlFor: id, textContent: parameter.name }), input,
    element("p", { id: `${id}-note`, className: "note", textContent: note }));
}

// What would be sent.
function request() {
  let { path, method } = current;
  const query = new URLSearchParams();
  for (const input of $("parameters").querySelectorAll("input, select")) {
    // A model's id may have slashes, which stay.
    if (input.dataset.in === "path") path = path.replace(`{${input.name}}`, input.value.split("/").map(encodeURIComponent).join("/"));
    else if (input.value) query.set(input.name, input.value);
  }
  const url = query.size ? `${path}?${query}` : path;
  const headers = {};
  if ($("key").value) headers.authorization = `Bearer ${$("key").value}`;
  if ($("body-part").hidden) return { url, method, headers };
  headers["content-type"] = "application/json";
  return { url, method, headers, body: $("body").value };
}

async function send(event) {
  event?.preventDefault();
  if (!$("form").reportValidity()) return;
  running?.abort();
  const mine = (running = new AbortController());
  const { url, ...options } = request();
  const began = performance.now();
  const took = () => `${Math.round(performance.now() - began)} ms`;
  const say = (text, kind) => Object.assign($("status"), { textContent: text, className: kind });
  $("answer").hidden = false;
  $("stop").disabled = false;
  $("headers").replaceChildren();
  $("headers-part").hidden = true;
  $("text").textContent = $("words").textContent = "";
  $("words-part").hidden = true;
  say("Waiting …", "");
  try {
    const answer = await fetch(url, { ...options, signal: mine.signal, cache: "no-store" });
    const kind = answer.ok ? "good" : "bad";
    const head = `${answer.status} ${answer.statusText}`.trim();
    say(`${head}, head after ${took()} …`, kind);
    $("headers").replaceChildren(...[...answer.headers].map(([name, value]) =>
      element("tr", {}, element("th", { scope: "row", textContent: name }), element("td", { textContent: value }))));
    $("headers-part").hidden = false;
    const pieces = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const isStream = answer.headers.get("content-type")?.startsWith("text/event-stream");
    const read = words();
    for (let piece = await pieces.read(); !piece.done; piece = await pieces.read()) {
      $("text").append(piece.value);
      if (isStream) $("words").append(read(piece.value));
      $("words-part").hidden = !$("words").textContent;
    }
    if (answer.headers.get("content-type")?.startsWith("application/json")) {
      // Words that are no JSON stay as they came.
      try { $("text").textContent = JSON.stringify(JSON.parse($("text").textContent), null, 2); } catch { }
    }
    say(`${head}, all of it after ${took()}`, kind);
  } catch (error) {
    if (mine.signal.aborted) { if (running === mine) say(`Stopped after ${took()}`, ""); }
    else say(`No answer: ${error.message}`, "bad");
  } finally {
    if (running === mine) { running = null; $("stop").disabled = true; }
  }
}

// Reads pieces of an event stream, cut anywhere, and returns what they add to the text, in any of the dialects.
function words() {
  let rest = "";
  return (piece) => {
    const lines = (rest + piece).split("\n");
    rest = lines.pop();
    return lines.filter((line) => line.startsWith("data: {")).map((line) => {
      try {
        const { choices, delta } = JSON.parse(line.slice(6));
        const said = choices?.[0]?.delta?.content ?? choices?.[0]?.text ?? delta?.text ?? delta;
        return typeof said === "string" ? said : "";
      } catch { return ""; }
    }).join("");
  };
}

// In the body, where whoever copies it sees it too.
function stream() {
  try {
    const body = JSON.parse($("body").value);
    if ($("stream").checked) body.stream = true; else delete body.stream;
    $("body").value = JSON.stringify(body, null, 2);
  } catch {
    $("stream").checked = !$("stream").checked;
    $("body-note").textContent = "The body is not valid JSON; correct it first.";
  }
}

// The key is left out: a command line is kept in a history.
async function copy() {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const { url, method, headers, body } = request();
  const parts = [`curl -X ${method} ${quoted(location.origin + url)}`];
  for (const [name, value] of Object.entries(headers)) {
    parts.push(name === "authorization" ? `-H "authorization: Bearer $STEPWELL_KEY"` : `-H ${quoted(`${name}: ${value}`)}`);
  }
  if (body) parts.push(`-d ${quoted(body)}`);
  let said = "Copied";
  try { await navigator.clipboard.writeText(parts.join(" \\\n  ")); } catch { said = "The browser does not allow it"; }
  $("copy").textContent = said;
  setTimeout(() => { $("copy").textContent = "Copy as curl"; }, 1500);
}

$("form").addEventListener("submit", send);
$("stop").addEventListener("click", () => running?.abort());
$("stream").addEventListener("change", stream);
$("copy").addEventListener("click", copy);
$("form").addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send(event); });
start();
