"use strict";
// Mined examples: filter and sort plain rows, build cards only for what is looked at.
// Text reaches the page through textContent alone, so no name in the data can become markup.
(() => {
  const PAGE = 48;
  const element = (id) => document.getElementById(id);
  const make = (tag, className, text) => {
    const one = document.createElement(tag);
    if (className) one.className = className;
    if (text !== undefined) one.textContent = text;
    return one;
  };
  const data = JSON.parse(element("examples-data").textContent);
  const rows = data.rows.map((row) => Object.fromEntries(data.fields.map((name, i) => [name, row[i]])));
  let pictures = null;  // parsed when the first card is drawn: it is most of the file
  const picture = (id) => {
    if (pictures === null) pictures = JSON.parse(element("strips-data").textContent);
    return Object.hasOwn(pictures, id) ? "data:image/jpeg;base64," + pictures[id] : null;
  };
  const number = (value, digits = 3) => {
    if (value === null || value === undefined) return "\u2013";
    return Number.isInteger(value) ? String(value) : value.toFixed(digits);
  };
  const words = (kind) => kind.replaceAll("_", " ");
  const className = (row) => row.label === 0 ? "any class" : data.classes[row.label - 1] ?? "class " + row.label;
  const evidence = [...new Set(rows.flatMap((row) => Object.keys(row.evidence)))].sort();
  const value = (row, field) => {
    if (field.startsWith("evidence:")) return row.evidence[field.slice(9)] ?? null;
    // right by the truth, then unknown, then wrong; within each by weight (hem.reporting.shown.best_first)
    if (field === "quality") return (row.right === null ? 2 : row.right ? 4 : 0) + Math.min(row.weight ?? 0, 1.99);
    return row[field] ?? null;
  };

  const fill = (select, first, values, name = (v) => v) => {
    if (first !== null) select.append(new Option(first, ""));
    for (const one of values) select.append(new Option(name(one), one));
  };
  const distinct = (field) => [...new Set(rows.map((row) => row[field]))].sort((a, b) => (a > b ? 1 : -1));
  fill(element("by-class"), "all classes", distinct("label"), (v) => className({ label: v }));
  fill(element("by-rule"), "all rules", distinct("rule"));
  fill(element("by-video"), "all videos", distinct("video"));
  fill(element("by-round"), "all rounds", distinct("round"));
  const numeric = ["weight", "score", "time", ...evidence.map((name) => "evidence:" + name)];
  const heading = (field) => words(field.replace("evidence:", ""));
  const known = rows.some((row) => row.right !== null);
  element("sort").append(new Option(known ? "best (truth, then weight)" : "best (weight)", "quality"));
  fill(element("sort"), null, ["weight", "score", "video", "time", ...numeric.slice(3)], heading);
  fill(element("range-field"), null, numeric, heading);
  const kinds = element("kinds");
  const kindsThere = distinct("kind");  // ignore regions teach nothing, so they are shown on demand
  for (const kind of kindsThere) {
    const label = make("label");
    const box = Object.assign(make("input"), { type: "checkbox", defaultChecked: kind !== "ignore" || kindsThere.length === 1, value: kind });
    label.append(box, words(kind) + " (" + rows.filter((row) => row.kind === kind).length + ")");
    kinds.append(label);
  }
  element("truth-label").hidden = rows.every((row) => row.right === null);

  let shown = [];
  let drawn = 0;
  const limit = (id) => (element(id).value === "" ? null : Number(element(id).value));
  const chosen = () => {
    const kind = new Set([...kinds.querySelectorAll("input:checked")].map((box) => box.value));
    const [label, rule, video, round, right] = ["class", "rule", "video", "round", "truth"].map((n) => element("by-" + n).value);
    const text = element("text").value.trim().toLowerCase();
    const field = element("range-field").value;
    const [low, high] = [limit("range-low"), limit("range-high")];
    return rows.filter((row) => {
      if (!kind.has(row.kind) || (label !== "" && String(row.label) !== label)) return false;
      if ((rule !== "" && row.rule !== rule) || (video !== "" && row.video !== video)) return false;
      if ((round !== "" && String(row.round) !== round) || (right !== "" && String(row.right) !== right)) return false;
      if (text && !(row.id + " " + row.video + " " + className(row) + " " + row.rule).toLowerCase().includes(text)) return false;
      if (low === null && high === null) return true;
      const found = value(row, field);  // a row without the figure is outside every range
      return found !== null && (low === null || found >= low) && (high === null || found <= high);
    });
  };
  const order = (list) => {
    const field = element("sort").value;
    const sign = element("direction").value === "down" ? -1 : 1;
    const place = (a, b) => (a.video === b.video ? a.frame - b.frame : a.video > b.video ? 1 : -1);
    if (field === "video") return list.sort((a, b) => sign * place(a, b));
    return list.sort((a, b) => {
      const [x, y] = [value(a, field), value(b, field)];
      if (x === null || y === null) return (x === null) - (y === null) || place(a, b);  // unmeasured last
      return sign * (x - y) || place(a, b);
    });
  };
  const line = (...parts) => {
    const one = make("span", "line");
    for (const [name, text] of parts) {
      const part = make("span");
      part.append(make("b", "", name ? name + " " : ""), text);
      one.append(part);
    }
    return one;
  };
  const strip = (row) => {
    const source = picture(row.id);
    if (source === null) return make("span", "none", "no picture (left out to keep this file small)");
    const image = make("img");
    image.decoding = "async";
    image.alt = words(row.kind) + " in " + row.video + ", frames before and after " + row.frame;
    image.src = source;
    return image;
  };
  const card = (row, position) => {
    const one = make("button", "card k-" + row.kind);
    one.type = "button";
    one.dataset.id = row.id;
    one.append(strip(row), line(["", words(row.kind)], ["", className(row)], ["score", number(row.score)], ["weight", number(row.weight)]));
    one.append(line(["", row.video], ["frame", String(row.frame)], ["", number(row.time, 2) + " s"]));
    const seen = evidence.filter((name) => name in row.evidence).slice(0, 6);
    one.append(line(["rule", row.rule], ...seen.map((name) => [words(name), number(row.evidence[name])])));
    if (row.right !== null) one.append(make("span", row.right ? "better" : "worse", row.right ? "right by the truth" : "wrong by the truth"));
    one.addEventListener("click", () => open(position));
    return one;
  };
  const more = () => {
    const end = Math.min(shown.length, drawn + PAGE);
    const batch = document.createDocumentFragment();
    for (; drawn < end; drawn++) batch.append(card(shown[drawn], drawn));
    element("grid").append(batch);
    element("more").hidden = drawn >= shown.length;
  };
  const apply = () => {
    shown = order(chosen());
    drawn = 0;
    element("grid").replaceChildren();
    const known = shown.filter((row) => row.right !== null);
    const right = known.filter((row) => row.right).length;
    let text = shown.length + " of " + rows.length + " examples";
    if (known.length) text += "; " + right + " of " + known.length + " right by the truth (" + (100 * right / known.length).toFixed(1) + " %)";
    element("count").textContent = text;
    more();
  };

  const dialog = element("detail");
  let current = -1;
  const open = (position) => {
    if (position < 0 || position >= shown.length) return;
    current = position;
    const row = shown[position];
    const list = make("dl");
    const add = (name, text) => list.append(make("dt", "", name), make("dd", "", text));
    add("id", row.id);
    add("kind", words(row.kind));
    add("class", className(row));
    add("video", row.video);
    add("frame", row.frame + " (" + number(row.time, 3) + " s)");
    add("box (left, top, right, bottom)", row.box.join(", ") + " px");
    add("score", number(row.score, 4));
    add("weight", number(row.weight, 4));
    add("rule", row.rule + ", round " + row.round);
    if (row.right !== null) add("by the truth", row.right ? "right" : "wrong");
    for (const name of Object.keys(row.evidence).sort()) add(words(name), number(row.evidence[name], 4));
    element("detail-body").replaceChildren(strip(row), list);
    if (!dialog.open) dialog.showModal();
    history.replaceState(null, "", "#" + row.id);
  };
  element("previous").addEventListener("click", () => open(current - 1));
  element("next").addEventListener("click", () => open(current + 1));
  element("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => history.replaceState(null, "", "#examples"));
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") open(current - 1);
    if (event.key === "ArrowRight") open(current + 1);
  });
  element("controls").addEventListener("input", apply);
  element("controls").addEventListener("submit", (event) => event.preventDefault());
  element("controls").addEventListener("reset", () => setTimeout(apply));
  element("more").addEventListener("click", more);
  // far below the first screen nothing is built until it is scrolled to
  new IntersectionObserver((seen) => { if (seen.some((one) => one.isIntersecting) && drawn >= PAGE) more(); },
    { rootMargin: "400px" }).observe(element("more"));
  apply();
  const wanted = location.hash.slice(1);
  const at = shown.findIndex((row) => row.id === wanted);
  if (at >= 0) open(at);
  document.documentElement.dataset.ready = "yes";
})();
