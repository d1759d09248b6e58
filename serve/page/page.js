// The page: choose a model, fill in fields, ask the server, show the answer. What differs by model is in views.js.

import { element, shown } from "./elements.js";
import { VIEWS } from "./views.js";

const PAUSE = 350; // milliseconds without a key after which the model is asked
const LONGEST = 8000; // characters of an address

const at = (id) => document.getElementById(id);
const rootAddress = new URL(".", document.baseURI);
const state = { models: [], model: null, signatures: {}, view: null, example: 0, requests: [], answers: {} };
let timer = 0;
let abort = new AbortController();

// The server

/** Return the parsed answer of the server; its errors are thrown as they are. */
async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(new URL(path, rootAddress), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer.");
  }
  const answer = await response.json().catch(() => ({ error: `The server answered with status ${response.status}.` }));
  if (answer.error !== undefined) throw new Error(answer.error);
  return answer;
}

const predictPath = () => `v1/models/${encodeURIComponent(state.model.name)}:predict`;
const bodyOf = ({ signature, inputs }) => ({ signature_name: signature, inputs });

/** Return the outputs of a request by name; the server leaves out the name of an only output. */
async function predict(request, signal) {
  const { outputs } = await ask(predictPath(), { method: "POST", body: JSON.stringify(bodyOf(request)), signal });
  const names = Object.keys(state.signatures[request.signature]?.outputs ?? {});
  return names.length === 1 ? { [names[0]]: outputs } : outputs;
}

// Models

async function start() {
  const { models } = await ask("page/models");
  state.models = models;
  at("model").replaceChildren(...models.map(({ name, problem }) =>
    element("option", { value: name, disabled: problem !== undefined, title: problem }, problem === undefined ? name : `${name} (not served)`)));
  await restore();
}

/** Show the model and the values that the address names. */
async function restore() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const name = fragment.get("model");
  const served = state.models.filter(({ problem }) => problem === undefined);
  const model = name === null ? served[0] : state.models.find((each) => each.name === name);
  if (model === undefined) {
    const names = served.map((each) => each.name).join(", ");
    at("model").selectedIndex = -1;
    throw new Error(name === null ? "The server has no model yet." : `The server has no model ${name}; it has ${names || "none"}.`);
  }
  if (model.problem !== undefined) throw new Error(`${model.name}: ${model.problem}`);
  await choose(model, fragment);
}

/** Show the fields of a model, with the values of an address or its first example, and ask it. */
async function choose(model, fragment) {
  clear();
  const { metadata } = await ask(`v1/models/${encodeURIComponent(model.name)}/metadata`);
  Object.assign(state, { model, example: 0, signatures: metadata.signature_def.signature_def });
  state.view = VIEWS.find((view) => view.fits(state.signatures));
  at("model").value = model.name;
  at("form").hidden = false;
  at("about").replaceChildren(about(model));
  document.title = `${model.name} – Trellis`;
  const fields = state.view.fields(model, state.signatures);
  const numbers = fields.filter(({ kind }) => kind === "number").map(control);
  at("fields").replaceChildren(
    ...fields.filter(({ kind }) => kind !== "number").map(control),
    ...(numbers.length ? [element("div", { class: "numbers" }, ...numbers)] : []),
  );
  const examples = state.view.examples(model);
  at("example").hidden = examples.length < 2;
  fill({ ...examples[0], ...Object.fromEntries(fragment) });
  await answer();
}

function about(model) {
  const scores = Object.entries(model.scores ?? {});
  const [name, score] = scores.find(([each]) => !/\/(loss|perplexity)$/.test(each)) ?? scores.find(([each]) => each !== "test/loss") ?? [];
  const parts = [`${state.view.kind}, version ${model.version}`];
  if (model.data) parts.push(`trained on ${model.data}`);
  if (typeof score === "number") parts.push(`${name} ${shown(score, 3)}`);
  return parts.join(" · ");
}

// Fields

function control({ name, label, kind, value = "", choices = [], folded, code, ...range }) {
  const id = `field-${name}`;
  const title = element("label", { for: id }, label);
  if (kind === "number") return element("div", { class: "number-field" }, title, element("input", { type: "number", id, name, value, ...range }));
  if (kind === "choice") return element("div", {}, title, element("select", { id, name }, ...choices.map((choice) => element("option", { value: choice }, choice))));
  const box = element("textarea", { id, name, rows: 1, spellcheck: "false", dir: "auto", class: code ? "code" : undefined }, value);
  return folded ? element("details", {}, element("summary", {}, title), box) : element("div", {}, title, box);
}

/** Fill in fields; others keep their values. */
function fill(values) {
  for (const box of at("form").elements) {
    if (box.name && Object.hasOwn(values, box.name)) box.value = values[box.name];
  }
}

const values = () => Object.fromEntries([...at("form").elements].filter((box) => box.name)
  .map((box) => [box.name, box.type === "number" ? box.valueAsNumber : box.value]));

/** Keep the model and the values in the address, as far as it can hold them. */
function remember() {
  const fragment = new URLSearchParams({ model: state.model.name });
  for (const box of at("form").elements) {
    if (box.name && box.value !== box.defaultValue) fragment.set(box.name, box.value);
  }
  const address = fragment.toString();
  if (address.length <= LONGEST) history.replaceState(null, "", `#${address}`);
}

// Answers

function clear() {
  abort.abort();
  abort = new AbortController();
  clearTimeout(timer);
  at("error").hidden = true;
  at("status").textContent = "";
}

function fail(error) {
  if (error.name === "AbortError") return;
  at("error").textContent = error.message;
  at("error").hidden = false;
  at("answer").replaceChildren();
  at("answer").removeAttribute("aria-busy");
}

/** Ask the model, and show its answer unless another question follows before it is there. */
async function answer() {
  clear();
  remember();
  const { signal } = abort;
  const asked = values();
  state.requests = state.view.requests(asked, state.signatures);
  at("request").hidden = state.requests.length === 0;
  if (state.requests.length === 0) {
    at("answer").replaceChildren();
    return;
  }
  at("answer").setAttribute("aria-busy", "true");
  state.answers = {};
  showRequest();
  const began = performance.now();
  const outputs = await Promise.all(state.requests.map((request) => predict(request, signal)));
  if (signal.aborted) return;
  state.answers = Object.fromEntries(state.requests.map(({ signature }, index) => [signature, outputs[index]]));
  const set = (name, value) => { fill({ [name]: value }); run(answer); };
  at("answer").replaceChildren(...state.view.draw(state.answers, asked, { model: state.model, set }));
  at("answer").removeAttribute("aria-busy");
  at("status").textContent = `Answered in ${Math.max(Math.round(performance.now() - began), 1)} ms`;
  showRequest();
}

// The request as code

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** Return a value as JSON in one line with spaces, which is Python as well for texts, numbers and lists. */
function compact(value) {
  if (Array.isArray(value)) return `[${value.map(compact).join(", ")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value).map(([name, part]) => `${JSON.stringify(name)}: ${compact(part)}`).join(", ")}}`;
}

const WRITTEN = {
  curl: () => state.requests.map((request) => `curl -d ${quoted(compact(bodyOf(request)))} ${quoted(new URL(predictPath(), rootAddress).href)}`).join("\n\n"),
  python: () => [
    "from trellis.serve.client import Client", "",
    `client = Client(${JSON.stringify(rootAddress.href.replace(/\/$/, ""))}, ${JSON.stringify(state.model.name)}, timeout=10)`,
    ...state.requests.map(({ signature, inputs }) => {
      const named = Object.entries(inputs).map(([name, value]) => `, ${name}=${compact(value)}`).join("");
      return `print(client.predict(${JSON.stringify(signature)}${named}))`;
    }),
  ].join("\n"),
  answer: () => state.requests.filter(({ signature }) => signature in state.answers)
    .map(({ signature }) => compact({ [signature]: state.answers[signature] })).join("\n\n"),
};

function showRequest() {
  at("code").textContent = WRITTEN[document.querySelector("input[name=form]:checked").value]();
}

async function copy() {
  try {
    await navigator.clipboard.writeText(at("code").textContent);
    at("copy").textContent = "Copied";
  } catch { // without TLS a page of another machine may not write to the clipboard
    getSelection().selectAllChildren(at("code"));
    at("copy").textContent = "Selected";
  }
  setTimeout(() => { at("copy").textContent = "Copy"; }, 2000);
}

// Events

const run = (step, ...inputs) => step(...inputs).catch(fail);

at("model").addEventListener("change", (event) =>
  run(choose, state.models.find(({ name }) => name === event.target.value), new URLSearchParams()));
at("form").addEventListener("submit", (event) => { event.preventDefault(); run(answer); });
at("form").addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => run(answer), PAUSE); });
at("form").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("form").requestSubmit();
});
at("example").addEventListener("click", () => {
  const examples = state.view.examples(state.model);
  state.example = (state.example + 1) % examples.length;
  fill(examples[state.example]);
  run(answer);
});
at("form-of-request").addEventListener("change", showRequest);
at("copy").addEventListener("click", copy);
addEventListener("hashchange", () => run(restore));
run(start);
