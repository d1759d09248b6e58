for (const root of document.querySelectorAll('[data-drawing="DRAWING"]:not([data-ready])')) {
  root.dataset.ready = "true";
  const data = JSON.parse(root.querySelector('script[type="application/json"]').textContent);
  const last = data.tokens.length - 1;
  const svg = root.querySelector("svg");
  const nodes = new Map([...svg.querySelectorAll(".node")].map((node) => [node.dataset.node, node]));
  const pairwise = (step) => data.pairwise[data.pairwise.length === 1 ? 0 : step];
  const nats = (value) => (value === null ? "−∞" : value.toFixed(3).replace("-", "−"));
  const sum = (...values) => (values.includes(null) ? null : values.reduce((total, value) => total + value, 0));
  const exp = (value) => (value === null ? 0 : Math.exp(value));
  const element = (name, text, parent, classes = "") => {
    const made = document.createElement(name);
    made.innerHTML = text;
    if (classes) made.className = classes;
    parent.append(made);
    return made;
  };
  const escaped = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
  const at = (step, tag) => `<sub>${step + 1}</sub>(${escaped(data.tags[tag])})`;

  // Each view: the numbers under the nodes, how large they are drawn, what a node is made of, and how it is explained.
  const share = (values) => (step, tag) => {
    const row = values[step].map((value) => (value === null ? -Infinity : value));
    const largest = Math.max(...row);
    return Math.exp(row[tag] - largest) / row.reduce((total, value) => total + Math.exp(value - largest), 0);
  };
  const views = {
    Scores: {
      values: data.unary, size: share(data.unary),
      terms: () => [],
      explain: (step, tag) => `Score of the tag <b>${escaped(data.tags[tag])}</b> for the token ` +
        `<b>${escaped(data.tokens[step])}</b>: u${at(step, tag)} = ${nats(data.unary[step][tag])}` +
        `${step === 0 ? ", with the score of a first tag" : ""}${step === last ? ", with the score of a last tag" : ""}.` +
        (step === 0 ? "" : ` Scores A of this tag after each other tag:`),
      table: (step, tag) => (step === 0 ? null : {
        head: ["tag before", "A"],
        rows: data.tags.map((name, before) => ({ tag: before, cells: [nats(pairwise(step - 1)[before][tag])] })),
      }),
    },
    Forward: {
      values: data.forward, size: share(data.forward), order: "forward",
      terms: (step, tag) => (step === 0 ? [] : data.tags.map((name, before) => ({
        from: [step - 1, before], to: [step, tag],
        weight: sum(data.forward[step - 1][before], pairwise(step - 1)[before][tag]),
      }))),
      explain: (step, tag) => (step === 0
        ? `log α${at(step, tag)} = u${at(step, tag)} = ${nats(data.forward[step][tag])}`
        : `log α${at(step, tag)} = u${at(step, tag)} + log Σ<sub>j</sub> exp(log α<sub>${step}</sub>(j) + A(j, ` +
          `${escaped(data.tags[tag])})): all paths that reach this tag.`),
      table: (step, tag) => (step === 0 ? null : {
        head: ["tag j before", `log α<sub>${step}</sub>(j)`, "A", "sum", "share"],
        rows: data.tags.map((name, before) => {
          const [message, score] = [data.forward[step - 1][before], pairwise(step - 1)[before][tag]];
          return { tag: before, weight: sum(message, score), cells: [nats(message), nats(score), nats(sum(message, score))] };
        }),
        total: (logSum) => [`log Σ exp = ${nats(logSum)}`, `+ u = ${nats(data.unary[step][tag])}`, `log α = ${nats(data.forward[step][tag])}`],
      }),
    },
    Backward: {
      values: data.backward, size: share(data.backward), order: "backward",
      terms: (step, tag) => (step === last ? [] : data.tags.map((name, after) => ({
        from: [step, tag], to: [step + 1, after],
        weight: sum(pairwise(step)[tag][after], data.unary[step + 1][after], data.backward[step + 1][after]),
      }))),
      explain: (step, tag) => (step === last
        ? `log β${at(step, tag)} = 0: nothing comes after the last token.`
        : `log β${at(step, tag)} = log Σ<sub>k</sub> exp(A(${escaped(data.tags[tag])}, k) + u<sub>${step + 2}</sub>(k) + ` +
          `log β<sub>${step + 2}</sub>(k)): all ways to go on from this tag.`),
      table: (step, tag) => (step === last ? null : {
        head: ["tag k after", "A", `u<sub>${step + 2}</sub>(k)`, `log β<sub>${step + 2}</sub>(k)`, "sum", "share"],
        rows: data.tags.map((name, after) => {
          const parts = [pairwise(step)[tag][after], data.unary[step + 1][after], data.backward[step + 1][after]];
          return { tag: after, weight: sum(...parts), cells: [...parts.map(nats), nats(sum(...parts))] };
        }),
        total: () => [`log Σ exp = log β = ${nats(data.backward[step][tag])}`],
      }),
    },
    Posteriors: {
      values: data.posteriors, size: (step, tag) => data.posteriors[step][tag],
      terms: () => [],
      explain: (step, tag) => `log α + log β − log Z = ${nats(data.forward[step][tag])} + ${nats(data.backward[step][tag])} − ` +
        `${nats(data.logPartition)} = ${nats(sum(data.forward[step][tag], data.backward[step][tag], -data.logPartition))}, ` +
        `so p(${escaped(data.tags[tag])} at ${escaped(data.tokens[step])}) = ${data.posteriors[step][tag].toFixed(4)}.`,
      table: () => null,
    },
    "Best path": {
      values: data.best, size: share(data.best), order: "best",
      terms: (step, tag) => (step === 0 ? [] : [{ from: [step - 1, data.previous[step][tag]], to: [step, tag], weight: 0 }]),
      explain: (step, tag) => (step === 0
        ? `δ${at(step, tag)} = u${at(step, tag)} = ${nats(data.best[step][tag])}`
        : `δ${at(step, tag)} = u${at(step, tag)} + max<sub>j</sub> (δ<sub>${step}</sub>(j) + A(j, ${escaped(data.tags[tag])})): ` +
          "the best path that reaches this tag."),
      table: (step, tag) => (step === 0 ? null : {
        head: ["tag j before", `δ<sub>${step}</sub>(j)`, "A", "sum"],
        rows: data.tags.map((name, before) => {
          const [score, move] = [data.best[step - 1][before], pairwise(step - 1)[before][tag]];
          return { tag: before, chosen: before === data.previous[step][tag], cells: [nats(score), nats(move), nats(sum(score, move))] };
        }),
        total: () => [`max + u = δ = ${nats(data.best[step][tag])}`],
      }),
    },
  };

  const controls = root.querySelector(".controls");
  const detail = root.querySelector(".detail");
  detail.setAttribute("aria-live", "polite");
  const label = element("label", 'step <input type="range" min="1"> <output></output>', root, "steps");
  controls.after(label);
  const slider = label.querySelector("input");
  let name = "Posteriors";
  let selected = null;

  // How many tokens a message has reached; on the best path, then how many were traced back.
  const reached = () => {
    const step = Number(slider.value) - 1;
    if (views[name].order === "forward") return (time) => time <= step;
    if (views[name].order === "backward") return (time) => time >= last - step;
    return (time) => views[name].order !== "best" || time <= step;
  };

  const draw = () => {
    const view = views[name];
    const steps = view.order === "best" ? 2 * last + 2 : last + 1;
    slider.max = String(steps);
    label.hidden = !view.order || last === 0;
    const isReached = reached();
    const traced = view.order === "best" ? Number(slider.value) - last - 1 : last + 1;
    label.querySelector("output").textContent = view.order === "best" && traced > 0
      ? `tracing back, ${Math.min(traced, last + 1)} of ${last + 1}`
      : `token ${view.order === "backward" ? last + 2 - Number(slider.value) : slider.value} of ${last + 1}`;
    for (const [key, node] of nodes) {
      const [step, tag] = key.split(",").map(Number);
      const value = view.values[step][tag];
      const visible = isReached(step);
      node.classList.toggle("later", !visible);
      node.classList.toggle("selected", key === selected && visible);
      node.querySelector(".value").setAttribute("r", visible && value !== null ? 13 * Math.sqrt(view.size(step, tag)) : 0);
      const text = node.querySelector("text");
      text.textContent = visible ? nats(value) : "";
      text.classList.toggle("small", name === "Posteriors" && value < 0.0005);
    }
    for (const line of svg.querySelectorAll(".edges line")) {
      const onPath = line.classList.contains("path");
      const time = Number(line.dataset.to.split(",")[0]);
      const posterior = name === "Posteriors";
      line.style.display = posterior || (onPath && name === "Best path" && last - time + 1 < traced) ? "" : "none";
    }
    svg.querySelector(".terms").replaceChildren();
    detail.replaceChildren();
    if (selected === null) {
      element("p", "Choose a node to see how its number comes about.", detail);
      return;
    }
    const [step, tag] = selected.split(",").map(Number);
    if (!isReached(step)) return;
    const terms = view.terms(step, tag).filter((term) => term.weight !== null);
    const largest = Math.max(...terms.map((term) => term.weight));
    const total = terms.reduce((soFar, term) => soFar + Math.exp(term.weight - largest), 0);
    for (const { from, to, weight } of terms) {
      const ends = [from, to].map((end) => nodes.get(end.join(",")));
      if (ends.includes(undefined)) continue;
      const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
      const circles = ends.map((end) => end.querySelector("circle"));
      ["x", "y"].forEach((axis) => circles.forEach((circle, index) =>
        line.setAttribute(`${axis}${index + 1}`, circle.getAttribute(`c${axis}`))));
      line.setAttribute("class", "term");
      line.style.strokeWidth = String(0.6 + 5 * Math.exp(weight - largest) / total);
      svg.querySelector(".terms").append(line);
    }
    element("p", view.explain(step, tag), detail);
    const table = view.table(step, tag);
    if (table === null) return;
    const box = element("div", "", detail, "scroll");
    const drawn = element("table", "", box);
    element("tr", table.head.map((text) => `<th>${text}</th>`).join(""), drawn);
    const weights = table.rows.map((row) => row.weight).filter((weight) => weight !== undefined && weight !== null);
    const peak = Math.max(...weights);
    const all = weights.reduce((soFar, weight) => soFar + Math.exp(weight - peak), 0);
    const isTerm = table.head.includes("share");
    for (const row of table.rows.filter((row) => data.shown.includes(row.tag) || row.chosen)) {
      const cells = isTerm ? [...row.cells, `${(100 * exp(row.weight === null ? null : row.weight - peak) / all).toFixed(1)} %`] : row.cells;
      element("tr", `<td class="text">${escaped(data.tags[row.tag])}</td>` + cells.map((cell) => `<td>${cell}</td>`).join(""),
        drawn, row.chosen ? "chosen" : "");
    }
    const hidden = table.rows.filter((row) => !data.shown.includes(row.tag) && !row.chosen);
    if (isTerm && hidden.length > 0) {
      const rest = hidden.reduce((soFar, row) => soFar + exp(row.weight === null ? null : row.weight - peak), 0) / all;
      element("tr", `<td class="text">${hidden.length} not drawn</td>${"<td></td>".repeat(table.head.length - 2)}` +
        `<td>${(100 * rest).toFixed(1)} %</td>`, drawn);
    }
    if (table.total) {
      element("tr", `<td class="text" colspan="${table.head.length}">${table.total(peak + Math.log(all)).join(", ")}</td>`, drawn, "total");
    }
  };

  const buttons = Object.keys(views).map((view) => {
    const button = element("button", view, controls);
    button.type = "button";
    button.addEventListener("click", () => {
      name = view;
      slider.max = String(2 * last + 2);
      slider.value = slider.max;
      buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      draw();
      slider.value = slider.max;
      draw();
    });
    button.setAttribute("aria-pressed", String(view === name));
    return button;
  });
  slider.addEventListener("input", draw);
  for (const [key, node] of nodes) {
    const choose = () => { selected = key; draw(); };
    node.addEventListener("click", choose);
    node.addEventListener("focus", choose);
    node.addEventListener("mouseenter", choose);
  }
  draw();
}
