// How models are asked and how their answers are shown: one view for each kind of answer.
//
// A view is chosen by the signatures of a model, the first that fits. To add one, write it here and put it into VIEWS:
//   kind                              what such a model is called
//   fits(signatures)                  whether a model is of this kind; signatures are `{name: {inputs, outputs}}`
//   fields(model, signatures)         what a person fills in: `{name, label, kind: "text" | "number" | "choice", …}`
//   examples(model)                   values of fields to begin with
//   requests(values, signatures)      what to ask: `{signature, inputs}`, none while there is nothing to ask
//   draw(answers, values, page)       elements; answers are `{signature: outputs by name}`, and `page.set(field, value)`
//                                     fills in a field and asks again

import { bars, element, heading, pairs, remark, shown, varied } from "./elements.js";

const HUES = 8;

const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);
const words = (text) => text.split(/\s+/).filter(Boolean);
/** Return the texts in the examples of a signature, requests of one row; exports of others have none. */
const examplesOf = (model, signature, ...names) => (model.examples?.[signature] ?? [])
  .map((example) => Object.fromEntries(names.map((name) => [name, example[name]?.[0]])))
  .filter((example) => names.every((name) => typeof example[name] === "string"));

/** Return whether a model has a signature with such inputs and outputs. */
const has = (signatures, name, inputs, outputs) => name in signatures &&
  inputs.every((each) => each in signatures[name].inputs) && outputs.every((each) => each in signatures[name].outputs);

// Taggers

/** Return where each token begins and ends in a text; null if the tokens are not pieces of it. */
export function locate(text, tokens) {
  const places = [];
  let end = 0;
  for (const token of tokens) {
    const begin = text.indexOf(token, end);
    if (begin < 0 || text.slice(end, begin).trim()) return null;
    end = begin + token.length;
    places.push([begin, end]);
  }
  return places;
}

const BIO = /^([BI])-(.+)$/s; // in exports, tags of entities are written so, and "O"

/**
 * Return the entities that tags describe, `{type, begin, end}` with the end excluded; null if the tags describe none, as
 * parts of speech do.
 */
export function entities(tags, labels) {
  if (![...tags, ...labels].every((tag) => tag === "O" || BIO.test(tag))) return null;
  const found = [];
  tags.forEach((tag, index) => {
    if (tag === "O") return;
    const [, position, type] = BIO.exec(tag);
    const last = found.at(-1);
    if (position === "I" && last?.end === index && last.type === type) last.end += 1;
    else found.push({ type, begin: index, end: index + 1 });
  });
  return found;
}

/**
 * Return the entities that the signature `entities` found in a row, as `entities` does, each with its probability; null
 * if the model has no such signature.
 */
export function found(answer, row) {
  if (answer === undefined) return null;
  return Array.from({ length: answer.count[row] }, (_, index) => ({
    type: answer.type[row][index], begin: answer.start_token[row][index], end: answer.end_token[row][index],
    probability: answer.probability[row][index],
  }));
}

/** Return the types of entities in an order that does not depend on the text, as far as the labels are known. */
function typesOf(found, labels) {
  const known = labels.filter((label) => label !== "O").map((label) => BIO.exec(label)[2]);
  return [...new Set([...known.sort(), ...found.map(({ type }) => type)])];
}

function highlighted(text, tagged, found, types) {
  const source = locate(text, tagged.tokens) ? text : tagged.tokens.join(" ");
  const places = locate(source, tagged.tokens);
  const parts = [];
  let end = 0;
  for (const entity of found) {
    const [from, to] = [places[entity.begin][0], places[entity.end - 1][1]];
    // Exports of older releases know the probabilities of tags alone.
    const probability = entity.probability ?? Math.min(...tagged.confidence.slice(entity.begin, entity.end));
    const title = entity.probability === undefined ? "the lowest probability of its tags" : "the probability of the entity";
    const mark = element("mark", { class: `entity hue-${types.indexOf(entity.type) % HUES}`, title },
      source.slice(from, to), element("span", { class: "type" }, "\u00a0", element("b", {}, entity.type), `\u00a0${shown(probability)}`));
    parts.push(source.slice(end, from), varied(mark, "--sure", probability));
    end = to;
  }
  return element("p", { class: "text", dir: "auto" }, ...parts, source.slice(end));
}

function interlinear(tagged, hueOf) {
  const items = tagged.tokens.map((token, index) => varied(element("li", { class: hueOf(tagged.tags[index]) },
    element("span", { class: "token" }, token), element("span", { class: "tag" }, tagged.tags[index] === "O" ? "·" : tagged.tags[index]),
    element("span", { class: "number" }, shown(tagged.confidence[index]))), "--sure", tagged.confidence[index]));
  return element("ol", { class: "tokens", dir: "auto" }, ...items);
}

const tags = {
  kind: "tagger",
  fits: (signatures) => has(signatures, "from_text", ["text"], ["tokens", "tags", "confidence"]),
  fields: () => [{ name: "text", label: "Texts, one a line", kind: "text" }],
  examples: (model) => examplesOf(model, "from_text", "text"),
  requests({ text }, signatures) {
    const texts = lines(text);
    if (!texts.length) return [];
    const ofEntities = { signature: "entities", inputs: { text: texts, threshold: texts.map(() => -1) } };
    return [{ signature: "from_text", inputs: { text: texts } },
      ...(has(signatures, "entities", ["text", "threshold"], ["count", "probability"]) ? [ofEntities] : [])];
  },
  draw({ from_text: answer, entities: sure }, { text }, { model }) {
    const labels = (Array.isArray(model.labels) ? model.labels : []).filter((label) => typeof label === "string");
    return lines(text).flatMap((line, row, all) => {
      const length = answer.tokens[row].filter((token) => token !== "").length;
      const tagged = { tokens: answer.tokens[row].slice(0, length), tags: answer.tags[row].slice(0, length), confidence: answer.confidence[row].slice(0, length) };
      const marked = found(sure, row) ?? entities(tagged.tags, labels);
      if (marked === null) {
        const names = [...new Set([...labels, ...tagged.tags])];
        return [interlinear(tagged, (tag) => `hue-${names.indexOf(tag) % HUES}`)];
      }
      const types = typesOf([...marked, ...entities(tagged.tags, labels)], labels);
      const hueOf = (tag) => (tag === "O" ? "outside" : `hue-${types.indexOf(BIO.exec(tag)[2]) % HUES}`);
      return [highlighted(line, tagged, marked, types),
        element("details", { open: all.length === 1 }, element("summary", {}, "Every token"), interlinear(tagged, hueOf))];
    });
  },
};

// Word aligners

const alignment = {
  kind: "word aligner",
  fits: (signatures) => has(signatures, "serving_default", ["source", "target"], ["alignment", "forward", "reverse"]),
  fields: () => [
    { name: "source", label: "Sentence, its words separated by spaces", kind: "text" },
    { name: "target", label: "Translation, its words separated by spaces", kind: "text" },
  ],
  examples: (model) => examplesOf(model, "serving_default", "source", "target"),
  requests({ source, target }) {
    const sides = [words(source).join(" "), words(target).join(" ")];
    return sides[0] && sides[1] ? [{ signature: "serving_default", inputs: { source: [sides[0]], target: [sides[1]] } }] : [];
  },
  draw({ serving_default: answer }, { source, target }) {
    const [forward, reverse] = [answer.forward[0], answer.reverse[0]];
    const mean = forward.map((line, row) => line.map((value, column) => (value + reverse[row][column]) / 2));
    const tables = [
      { name: "Mean", values: mean },
      { name: "Source → target", values: forward },
      { name: "Target → source", values: reverse },
    ];
    return pairs(words(source), words(target), tables, new Set(words(answer.alignment[0])));
  },
};

// Classifiers

function nearest(vectors, sentences) {
  const norm = (vector) => Math.hypot(...vector) || 1;
  const [query, ...others] = vectors;
  return others
    .map((vector, index) => ({
      name: sentences[index],
      value: vector.reduce((sum, part, axis) => sum + part * query[axis], 0) / norm(vector) / norm(query),
    }))
    .sort((one, other) => other.value - one.value);
}

const SHOWN = 10; // classes and sentences that are shown at once

function longBars(rows, options) {
  if (rows.length <= SHOWN) return [bars(rows, options)];
  return [bars(rows.slice(0, SHOWN), options),
    element("details", {}, element("summary", {}, `${rows.length - SHOWN} more`), bars(rows.slice(SHOWN), options))];
}

const classes = {
  kind: "classifier",
  fits: (signatures) => has(signatures, "serving_default", ["text"], ["labels", "probabilities"]),
  fields: (model, signatures) => [
    { name: "text", label: "Texts, one a line", kind: "text" },
    ...(has(signatures, "embed", ["text"], ["vector"])
      ? [{
        name: "sentences", label: "Sentences to compare the first text with, one a line", kind: "text", folded: true,
        value: examplesOf(model, "embed", "text").map(({ text }) => text).join("\n"),
      }]
      : []),
  ],
  examples: (model) => examplesOf(model, "serving_default", "text"),
  requests({ text, sentences = "" }) {
    const texts = lines(text);
    if (!texts.length) return [];
    const compared = lines(sentences).filter((line) => line !== texts[0]);
    return [
      { signature: "serving_default", inputs: { text: texts } },
      ...(compared.length ? [{ signature: "embed", inputs: { text: [texts[0], ...compared] } }] : []),
    ];
  },
  draw({ serving_default: answer, embed }, { text, sentences = "" }) {
    const texts = lines(text);
    const drawn = texts.flatMap((line, row) => {
      const rows = answer.labels[row].map((name, index) => ({ name, value: answer.probabilities[row][index] }));
      rows.sort((one, other) => other.value - one.value);
      return [texts.length > 1 ? element("p", { class: "text small", dir: "auto" }, line) : null, ...longBars(rows)].filter(Boolean);
    });
    if (!embed) return drawn;
    const compared = lines(sentences).filter((line) => line !== texts[0]);
    return [...drawn, heading("Nearest sentences"), remark("By the cosine of their sentence vectors."),
      ...longBars(nearest(embed.vector, compared), { wide: true })];
  },
};

// Language models

const SAMPLES = 3;
const READABLE = { " ": "␣", "\n": "⏎", "</s>": "(end of the text)", "<unk>": "(unknown)" };

const continuations = {
  kind: "language model",
  fits: (signatures) => has(signatures, "generate", ["prompt"], ["text"]),
  fields: () => [
    { name: "prompt", label: "Beginning of a text", kind: "text" },
    { name: "count", label: "Tokens", kind: "number", value: 30, min: 1, step: 1 },
    { name: "temperature", label: "Temperature", kind: "number", value: 1, min: 0, step: 0.1 },
    { name: "top_p", label: "Top p", kind: "number", value: 0.95, min: 0, max: 1, step: 0.05 },
    { name: "seed", label: "Seed", kind: "number", value: 1, min: 0, step: 1 },
  ],
  // Sentences of the data are complete; the beginning of one is a better prompt.
  examples: (model) => examplesOf(model, "generate", "prompt").map(({ prompt }) =>
    ({ prompt: words(prompt).slice(0, Math.ceil(words(prompt).length / 2)).join(" ") })),
  requests({ prompt, count, temperature, top_p, seed }, signatures) {
    const seeds = Array.from({ length: SAMPLES }, (_, index) => seed + index);
    const all = {
      generate: { prompt: seeds.map(() => prompt), seed: seeds, count, temperature, top_k: 0, top_p, repetition: 0 },
      beam: { prompt: [prompt], count, width: 4 },
      next: { prompt: [prompt], count: SHOWN },
      score: { text: [prompt] },
    };
    // Exports of older releases have fewer signatures, and fewer settings.
    return Object.entries(all).filter(([signature]) => signature in signatures).map(([signature, inputs]) => ({
      signature, inputs: Object.fromEntries(Object.entries(inputs).filter(([name]) => name in signatures[signature].inputs)),
    }));
  },
  draw({ generate, beam, next, score }, { prompt }, page) {
    const continued = (text, ...after) => element("p", { class: "text", dir: "auto" }, element("span", { class: "prompt" }, prompt), text, ...after);
    const drawn = [...new Set(generate.text)].map((text) => continued(text));
    if (beam) {
      const value = element("span", { class: "number" }, ` ${shown(beam.log_probability[0])} nats`);
      drawn.push(heading("Most probable"), continued(beam.text[0], value));
    }
    if (next) {
      const space = page.model.unit === "words" && prompt && !/\s$/.test(prompt) ? " " : "";
      drawn.push(heading("Next token"), bars(next.tokens[0].map((token, index) => ({
        name: READABLE[token] ?? token, value: next.probabilities[0][index],
        choose: /^<.+>$/.test(token) ? undefined : () => page.set("prompt", prompt + space + token), says: "append to the text",
      }))));
    }
    if (score) drawn.push(...scored(score, prompt));
    return drawn;
  },
};

function scored({ log_probability: [nats], tokens: [count], unknown: [unknown] }, prompt) {
  if (!prompt) return [];
  const notes = [`${shown(nats)} nats over ${count} tokens, its end included: perplexity ${shown(Math.exp(-nats / count))}`];
  if (unknown) notes.push(`${unknown} ${unknown === 1 ? "token is" : "tokens are"} unknown to the model`);
  return [heading("The text itself"), remark(`${notes.join("; ")}.`)];
}

// Translators, and models that put attributes into words

const TRANSLATIONS = 3;
const SPACE = "▁";

const translation = {
  kind: "translator",
  fits: (signatures) => has(signatures, "translate", ["text", "width", "best"], ["text", "score", "pieces"]),
  fields: (model, signatures) => {
    const own = model.examples?.translate?.[0] ?? {};
    const number = (name, label, value, least, step) =>
      ({ name, label, kind: "number", value: Number((own[name] ?? value).toPrecision(6)), min: least, step });
    return [
      { name: "text", label: "Text", kind: "text" },
      number("width", "Width of the beam", 5, 1, 1),
      number("alpha", "Length normalization", 1, 0, 0.1),
      number("no_repeat", "Forbid repeated n-grams of", 0, 0, 1),
      ...("channel" in signatures.translate.inputs ? [number("channel", "Weight of the attributes", 0, 0, 0.1)] : []),
    ];
  },
  examples: (model) => examplesOf(model, "translate", "text"),
  requests({ text, width, alpha, no_repeat, channel }) {
    const written = text.split("\n").join(" ").trim();
    const settings = { width, best: Math.min(TRANSLATIONS, width), count: 250, minimum: 0, no_repeat, alpha, coverage: 0 };
    if (channel !== undefined) settings.channel = channel;
    return written ? [{ signature: "translate", inputs: { text: [written], ...settings } }] : [];
  },
  draw({ translate: answer }) {
    const drawn = answer.text[0].map((text, rank) => element("p", { class: rank ? "text small" : "text", dir: "auto" }, text,
      element("span", { class: "number" }, ` ${shown(answer.score[0][rank])}`)));
    if (!answer.attention) return drawn;
    const read = answer.source_pieces[0].filter((piece) => piece !== "");
    const written = answer.pieces[0][0].filter((piece) => piece !== "");
    const values = read.map((_, row) => written.map((_, column) => answer.attention[0][0][column][row]));
    const readable = (piece) => piece.replaceAll(SPACE, "\u00a0");
    return [...drawn, heading("Attention"), remark("From the source, in rows, to each piece of the best translation."),
      ...pairs(read.map(readable), written.map(readable), [{ name: "Attention", values }], new Set())];
  },
};

// Any other model: inputs and outputs as they are

const other = {
  kind: "model of another kind",
  fits: () => true,
  fields: (model, signatures) => [
    { name: "signature", label: "Signature", kind: "choice", choices: Object.keys(signatures).sort() },
    { name: "inputs", label: "Inputs, as JSON", kind: "text", code: true },
  ],
  examples: (model) => Object.entries(model.examples ?? {}).flatMap(([signature, examples]) =>
    examples.map((example) => ({ signature, inputs: JSON.stringify(example, null, 1) }))),
  requests({ signature, inputs }) {
    if (!inputs.trim()) return [];
    try {
      return [{ signature, inputs: JSON.parse(inputs) }];
    } catch (error) {
      throw new Error(`inputs: not JSON (${error.message})`);
    }
  },
  draw: (answers) => Object.values(answers).map((outputs) =>
    element("pre", { tabindex: 0, "aria-label": "Outputs" }, JSON.stringify(outputs, null, 1))),
};

export const VIEWS = [alignment, translation, tags, continuations, classes, other];
