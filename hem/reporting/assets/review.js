"use strict";
(() => {
  const at = (id) => document.getElementById(id);
  const token = document.querySelector("meta[name=hem-token]").content;
  const KEYS = { r: "right", w: "wrong", u: "unsure", z: "undo", Backspace: "undo" };
  const RETRY_MS = 2000;
  let shown = null;
  let busy = true;

  // one name a tab, kept over reloads: undo means this tab's own last answer
  let tab = sessionStorage.getItem("tab");
  if (!tab) {
    tab = Array.from(crypto.getRandomValues(new Uint8Array(10)), (b) => b.toString(16).padStart(2, "0")).join("");
    sessionStorage.setItem("tab", tab);
  }

  const trouble = (text) => { at("trouble").textContent = text; at("trouble").hidden = !text; };

  // an answer is sent again until the server says that it is on disk; answering twice the same is harmless
  async function ask(path, body) {
    for (;;) {
      let answer = null;
      try {
        answer = await fetch(path, body === undefined ? {} : {
          method: "POST",
          headers: { "Content-Type": "application/json", "X-Hem-Token": token },
          body: JSON.stringify({ ...body, tab }),
        });
      } catch (error) {
        trouble("The server does not answer; nothing is lost, trying again …");
        await new Promise((wake) => setTimeout(wake, RETRY_MS));
        continue;
      }
      if (answer.ok) { trouble(""); return answer.json(); }
      throw new Error(await answer.text());
    }
  }

  function element(name, text, className) {
    const made = document.createElement(name);
    made.textContent = text;
    if (className) { made.className = className; }
    return made;
  }

  const words = (kind) => kind.replaceAll("_", " ");

  function facts(example) {
    const rows = [["video", example.video], ["frame", `${example.frame} (${example.time} s)`], ["rule", example.rule],
      ["score", example.score ?? "none: the detector said nothing"], ["weight", example.weight], ["round", example.round],
      ...Object.entries(example.evidence).map(([name, value]) => [name.replaceAll("_", " "), value]), ["id", example.id]];
    return rows.flatMap(([name, value]) => [element("dt", name), element("dd", String(value))]);
  }

  function picture(id, form, example) {
    const image = at(id);
    image.removeAttribute("src");
    image.onerror = () => trouble(`No picture of ${example.video} frame ${example.frame} could be made; answer unsure.`);
    image.src = `/picture/${form}/${example.id}`;
  }

  function show(found) {
    shown = found.example;
    progress(found.progress);
    at("card").hidden = shown === null;
    at("done").hidden = shown !== null;
    for (const id of ["right", "wrong", "unsure"]) { at(id).disabled = shown === null; }
    if (shown !== null) {
      at("claim").replaceChildren(element("b", `${words(shown.kind)}: `), document.createTextNode(shown.claim));
      at("facts").replaceChildren(...facts(shown));
      picture("strip", "strip", shown);
      picture("place", "place", shown);
      for (const id of found.coming) { new Image().src = `/picture/strip/${id}`; }
    }
    document.documentElement.dataset.shown = shown === null ? "none" : shown.id;
  }

  function row(one, className) {
    const made = element("tr", "", className);
    const purity = one.purity === null ? "\u2013"
      : `${one.purity.toFixed(2)} [${one.low.toFixed(2)}, ${one.high.toFixed(2)}]`;
    const state = one.enough ? "enough" : `about ${one.missing} more`;
    for (const value of [words(one.kind), one.rule ?? "all rules", one.mined, one.right, one.wrong, one.unsure, purity]) {
      made.append(element("td", String(value)));
    }
    made.append(element("td", state, one.enough ? "enough" : ""));
    return made;
  }

  function progress(now) {
    at("purity").replaceChildren(...now.groups.map((one) => row(one, "")),
      ...(now.groups.length > now.kinds.length ? now.kinds.map((one) => row(one, "kind")) : []));
    const left = now.groups.reduce((sum, one) => sum + one.missing, 0);
    const more = now.enough ? `enough for intervals of width ${now.width}: you may stop`
      : `about ${left} more for intervals of width ${now.width}`;
    at("state").textContent = `${now.answered} of ${now.mined} answered; ${more}`;
  }

  async function act(what) {
    if (busy || (what !== "undo" && shown === null)) { return; }
    busy = true;
    try {
      show(what === "undo" ? await ask("/api/undo", {}) : await ask("/api/answer", { id: shown.id, answer: what }));
    } catch (error) {
      trouble(error.message);
    } finally {
      busy = false;
    }
  }

  for (const id of ["right", "wrong", "unsure", "undo"]) { at(id).addEventListener("click", () => act(id)); }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) { return; }
    const what = KEYS[event.key] ?? KEYS[event.key.toLowerCase()];
    if (what) { event.preventDefault(); act(what); }
  });

  ask(`/api/next?tab=${tab}`).then(show, (error) => trouble(error.message)).finally(() => {
    busy = false;
    document.documentElement.dataset.ready = "yes";
  });
})();
