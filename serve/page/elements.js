// Elements of answers. Texts and labels come from models and their data, so they enter the page as text alone.

/** Return an element. Attributes that are functions listen to events; children are elements and texts. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key, value);
    else if (value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Set a custom property of an element, which a strict policy forbids in attributes, and return the element. */
export function varied(made, name, value) {
  made.style.setProperty(name, value);
  return made;
}

/** Return a probability as text. */
export function shown(value, digits = 2) {
  const least = 10 ** -digits;
  return value > 0 && value < least / 2 ? `< ${least}` : value.toFixed(digits).replace("-", "−");
}

/** Return a heading. */
export const heading = (text) => element("h2", {}, text);

/** Return a remark in small type. */
export const remark = (text) => element("p", { class: "remark" }, text);

/**
 * Return a list of names with a bar for each value.
 *
 * @param {{name: string, value: number, choose?: () => void, says?: string}[]} rows in their order; `choose` makes the
 *     name a button, which `says` describes.
 * @param {{digits?: number, wide?: boolean}} options `wide` is for names that are sentences.
 */
export function bars(rows, { digits = 3, wide = false } = {}) {
  const items = rows.map(({ name, value, choose, says }) => {
    const label = choose
      ? element("button", { type: "button", class: "name", dir: "auto", title: says, click: choose }, name)
      : element("span", { class: "name", dir: "auto" }, name);
    const bar = varied(element("span", { class: "bar", "aria-hidden": "true" }), "--share", Math.min(Math.max(value, 0), 1));
    return element("li", {}, label, bar, element("span", { class: "number" }, shown(value, digits)));
  });
  return element("ol", { class: wide ? "bars wide" : "bars" }, ...items);
}

let groups = 0;

/** Return buttons of which one is chosen; `choose` gets its index. */
export function segments(legend, names, choose) {
  const group = `segments-${(groups += 1)}`;
  const labels = names.map((name, index) => element("label", {},
    element("input", { type: "radio", name: group, checked: index === 0, change: () => choose(index) }), name));
  return element("fieldset", { class: "segments" }, element("legend", {}, legend), ...labels);
}

const CELLS = 10_000; // of a table that a browser draws at once
const DENSE = 24; // columns above which cells are small

/**
 * Return two lines of words above the table of their pairs; what is pointed at, or reached by arrow keys, lights up in
 * all three.
 *
 * @param {string[]} rows the words of one side.
 * @param {string[]} columns the words of the other side.
 * @param {{name: string, values: number[][]}[]} tables probabilities of pairs, `[row][column]`; the first is shown first.
 * @param {Set<string>} links the pairs with a frame, as `row-column`.
 */
export function pairs(rows, columns, tables, links) {
  const line = (words) => element("p", { class: "text", dir: "auto" }, ...words.flatMap((made) => [made, " "]));
  if (rows.length * columns.length > CELLS) return [line(rows), line(columns), remark("Too many pairs of words to draw.")];
  let chosen = 0;
  let current = [0, 0];
  const word = (row, column) => (text, index) => element("span", {
    class: "word", mouseenter: () => light(row ? index : null, column ? index : null), mouseleave: dim,
  }, text);
  const above = rows.map(word(true, false));
  const below = columns.map(word(false, true));
  const cells = rows.map((_, row) => columns.map((_, column) => element("td", {
    role: "gridcell", tabindex: -1, class: links.has(`${row}-${column}`) ? "linked" : undefined,
    mouseenter: () => light(row, column), focus: () => { move(row, column); light(row, column); },
    click: (event) => event.currentTarget.focus(),
  })));
  const heads = columns.map((text) => element("th", { scope: "col", role: "columnheader" }, element("span", {}, text)));
  const sides = rows.map((text) => element("th", { scope: "row", role: "rowheader" }, text));
  const table = element("table", { role: "grid", class: columns.length > DENSE ? "pairs dense" : "pairs", "aria-label": "Pairs of words", mouseleave: dim, focusout: dim, keydown },
    element("thead", {}, element("tr", { role: "row" }, element("td", {}), ...heads)),
    element("tbody", {}, ...rows.map((_, row) => element("tr", { role: "row" }, sides[row], ...cells[row]))));
  const reading = element("p", { class: "reading" });

  const value = (row, column) => tables[chosen].values[row][column];
  const isLinked = (row, column) => links.has(`${row}-${column}`);

  function fill() {
    cells.forEach((line, row) => line.forEach((cell, column) => {
      varied(cell, "--heat", value(row, column));
      const link = isLinked(row, column) ? ", linked" : "";
      cell.setAttribute("aria-label", `${rows[row]}, ${columns[column]}: ${shown(value(row, column))}${link}`);
    }));
    dim();
  }

  /** Light up a cell, a row or a column, and the words that it is about. */
  function light(row, column) {
    above.forEach((made, index) => varied(made, "--heat", column === null ? Number(index === row) : value(index, column)));
    below.forEach((made, index) => varied(made, "--heat", row === null ? Number(index === column) : value(row, index)));
    above.forEach((made, index) => made.classList.toggle("pointed", index === row));
    below.forEach((made, index) => made.classList.toggle("pointed", index === column));
    sides.forEach((made, index) => made.classList.toggle("pointed", index === row));
    heads.forEach((made, index) => made.classList.toggle("pointed", index === column));
    cells.forEach((line, index) => line.forEach((cell, other) => cell.classList.toggle("lit", index === row || other === column)));
    table.classList.add("lighting");
    reading.replaceChildren(...describe(row, column));
  }

  function describe(row, column) {
    if (row !== null && column !== null) {
      const parts = tables.map((each) => `${each.name.toLowerCase()} ${shown(each.values[row][column], 3)}`);
      return [element("b", {}, `${rows[row]} – ${columns[column]}`), ` ${isLinked(row, column) ? "linked" : "not linked"}: ${parts.join(", ")}`];
    }
    const partners = (row !== null ? columns : rows)
      .map((text, index) => ({ text, share: row !== null ? value(row, index) : value(index, column) }))
      .sort((one, other) => other.share - one.share).slice(0, 3).filter(({ share }) => share >= 0.005);
    return [element("b", {}, row !== null ? rows[row] : columns[column]),
      `: ${partners.map(({ text, share }) => `${text} ${shown(share)}`).join(", ") || "no partner"}`];
  }

  function dim() {
    if (table.contains(document.activeElement)) return;
    [...above, ...below].forEach((made) => made.style.removeProperty("--heat"));
    [...above, ...below, ...sides, ...heads].forEach((made) => made.classList.remove("pointed"));
    cells.flat().forEach((cell) => cell.classList.remove("lit"));
    table.classList.remove("lighting");
    reading.replaceChildren(element("span", { class: "remark" }, `${links.size ? "Framed: the links of the alignment. " : ""}Point at a word or a cell, or use the arrow keys.`));
  }

  function move(row, column) {
    cells[current[0]][current[1]].tabIndex = -1;
    current = [row, column];
    cells[row][column].tabIndex = 0;
  }

  function keydown(event) {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -columns.length], End: [0, columns.length] };
    const step = steps[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const within = (index, size) => Math.min(Math.max(index, 0), size - 1);
    cells[within(current[0] + step[0], rows.length)][within(current[1] + step[1], columns.length)].focus();
  }

  const choices = tables.length > 1
    ? segments("Probabilities", tables.map(({ name }) => name), (index) => { chosen = index; fill(); })
    : null;
  cells[0][0].tabIndex = 0;
  fill();
  return [line(above), line(below), ...(choices ? [choices] : []), element("div", { class: "scroll" }, table), reading];
}
