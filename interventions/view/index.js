"use strict";
// The rows of all runs: sorted, filtered, opened, two chosen. All text comes in as text nodes, never as markup.
(function () {
  const given = JSON.parse(document.getElementById("data").textContent);
  const PAUSE = 4000; // milliseconds between two questions for the rows
  const WORDS = { status: "status", model: "model", task: "tasks", in: "in" };
  const KEYS = { // by what rows can be sorted
    run: { text: true, value: (row) => row.name || row.leaf },
    model: { text: true, value: (row) => row.models.join(", ") },
    tasks: { text: true, value: (row) => row.tasks.join(", ") },
    effect: { value: (row) => (row.effects.length ? Math.abs(row.effects[0].effect) : null) },
    CD: { value: (row) => row.cd_value },
    status: { text: true, value: (row) => row.status },
    when: { value: (row) => row.when },
    took: { value: (row) => row.took },
  };
  const COLUMNS = [ // head, the keys in it, what a row has there
    ["run", ["run"], (row) => [tick(row), name(row)]],
    ["model, tasks", ["model", "tasks"], (row) => [node("div", row.models.join(", ")), tasks(row)]],
    ["effect [interval]", ["effect"], effect],
    ["controls there", [], (row) => (row.effects.length ? [node("div", row.effects[0].controls)] : [])],
    ["CD", ["CD"], (row) => (row.status === "finished" ? [node("div", row.cd)] : [])],
    ["status", ["status"], statusOf],
    ["when, took", ["when", "took"], moment],
  ];
  let rows = given.rows, state = {}, opened = new Set();
  const table = document.getElementById("runs"), filters = document.getElementById("filters"), bar = document.getElementById("chosen");
  const head = node("thead"), body = node("tbody");
  table.append(head, body);

  // ---- text ----
  function node(tag, text, attributes) {
    const made = document.createElement(tag);
    if (text !== undefined && text !== null) made.textContent = text;
    for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
    return made;
  }
  const small = (text) => node("div", text, { class: "small" });
  const two = (number) => String(number).padStart(2, "0");
  function date(seconds) {
    const d = new Date(seconds * 1000);
    return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${two(d.getHours())}:${two(d.getMinutes())}`;
  }
  function span(seconds) {
    if (seconds < 100) return `${Math.max(0, Math.round(seconds))} s`;
    const minutes = Math.round(seconds / 60);
    return minutes < 100 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  }
  function size(bytes) {
    return bytes < 1e4 ? `${bytes} B` : bytes < 1e6 ? `${Math.round(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
  }
  const pieces = (texts) => texts.flatMap((text, k) => [k ? " " : "", node("span", text, { class: "nowrap" })]); // a line ends between them
  const linkTo = (row, name, text) => node("a", text, { href: `${row.at}/${encodeURIComponent(name)}` });

  // ---- state, in the address ----
  function settle() {
    state = { sort: "when", dir: "down", ...Object.fromEntries(new URLSearchParams(location.hash.slice(1))) };
    if (!KEYS[state.sort]) state.sort = "when";
    if (state.dir !== "up") state.dir = "down";
  }
  function remember() {
    const plain = { sort: "when", dir: "down" };
    const kept = Object.entries(state).filter(([key, value]) => value && value !== plain[key]);
    history.replaceState(null, "", "#" + new URLSearchParams(kept));
  }
  const chosen = () => (state.c || "").split(" ").filter((at) => rows.some((row) => row.at === at && row.comparable));
  function choose(at, yes) {
    state.c = [...chosen().filter((each) => each !== at), ...(yes ? [at] : [])].join(" ");
    draw();
  }

  // ---- which rows, in which order ----
  const FACETS = {
    status: (row) => [row.status === "wrong" ? "no run" : row.status],
    model: (row) => row.models,
    task: (row) => row.tasks.slice(0, 1).filter(Boolean),
    in: (row) => [row.in, ...(row.status === "sweep" ? [row.folder] : [])].filter(Boolean),
  };
  function shown() {
    const words = (state.q || "").toLowerCase().split(/\s+/).filter(Boolean);
    const kept = rows.filter((row) => {
      for (const key of Object.keys(FACETS)) if (state[key] && !FACETS[key](row).includes(state[key])) return false;
      const text = [row.folder, row.name, row.digest, row.point, row.metric, row.status, row.told, ...row.models, ...row.tasks, ...row.effects.map((e) => e.intervention)].join(" ").toLowerCase();
      return words.every((word) => text.includes(word));
    });
    const column = KEYS[state.sort], way = state.dir === "up" ? 1 : -1;
    const compared = (a, b) => {
      if ((a.status === "wrong") !== (b.status === "wrong")) return a.status === "wrong" ? 1 : -1;
      const [x, y] = [column.value(a), column.value(b)];
      const [p, q] = [x === null || x === "", y === null || y === ""];
      if (p || q) return p && q ? 0 : p ? 1 : -1; // what is unknown comes last either way
      return way * (column.text ? String(x).localeCompare(String(y), undefined, { numeric: true }) : x - y);
    };
    return kept.map((row, k) => [row, k]).sort(([a, i], [b, j]) => compared(a, b) || i - j).map(([row]) => row);
  }
  function sortBy(key) {
    state.dir = state.sort === key ? (state.dir === "up" ? "down" : "up") : KEYS[key].text ? "up" : "down";
    state.sort = key;
    draw();
  }

  // ---- drawing ----
  function controls() { // built once a set of options, so that typing is not disturbed
    const options = Object.fromEntries(Object.keys(FACETS).map((key) => [key, [...new Set(rows.flatMap(FACETS[key]))].sort()]));
    const signature = JSON.stringify(options);
    if (filters.dataset.of !== signature) {
      filters.dataset.of = signature;
      const search = node("input", null, { type: "search", name: "q", size: 22, placeholder: "run, task, intervention …" });
      search.addEventListener("input", () => { state.q = search.value; draw(); });
      const boxes = [label("find", search)];
      for (const [key, names] of Object.entries(options)) if (names.length > (key === "in" ? 0 : 1) || state[key]) boxes.push(label(WORDS[key], select(key, [["", "all"], ...names.map((name) => [name, name])])));
      const sorting = label("sorted by", select("sort", Object.keys(KEYS).map((key) => [key, key])));
      const way = node("button", "", { type: "button", name: "dir" });
      way.addEventListener("click", () => sortBy(state.sort));
      sorting.className = way.className = "sorting";
      filters.replaceChildren(...boxes, sorting, way);
    }
    for (const field of filters.elements) {
      if (field.name === "dir") field.textContent = state.dir === "up" ? "▲ rising" : "▼ falling";
      else if (field !== document.activeElement || field.tagName === "SELECT") field.value = state[field.name] || "";
    }
  }
  function label(text, field) {
    const box = node("label", text);
    box.append(field);
    return box;
  }
  function select(key, pairs) {
    const list = node("select", null, { name: key });
    for (const [value, text] of pairs) list.append(new Option(text, value));
    list.addEventListener("change", () => { if (key === "sort") sortBy(list.value); else { state[key] = list.value; draw(); } });
    return list;
  }
  function heads() {
    const line = node("tr");
    for (const [title, keys] of COLUMNS) {
      const cell = node("th", keys.length ? null : title, { scope: "col" });
      keys.forEach((key, k) => {
        const is = state.sort === key, text = keys.length > 1 ? key : title;
        if (is) cell.setAttribute("aria-sort", state.dir === "up" ? "ascending" : "descending");
        const button = node("button", text + (is ? (state.dir === "up" ? " ▲" : " ▼") : ""), { type: "button", "data-key": `sort ${key}` });
        button.addEventListener("click", () => sortBy(key));
        cell.append(k ? ", " : "", button);
      });
      line.append(cell);
    }
    head.replaceChildren(line);
  }
  function lineOf(row) {
    const line = node("tr", null, { class: row.status });
    for (const [title, , content] of COLUMNS) {
      const cell = node("td", null, { "data-head": title });
      const parts = content(row).filter((part) => part && (part.childNodes.length || part.tagName === "INPUT"));
      if (parts.length) {
        const box = node("div");
        box.append(...parts);
        cell.append(box);
      }
      line.append(cell);
    }
    return line;
  }
  function tick(row) {
    if (!row.comparable) return null;
    const box = node("input", null, { type: "checkbox", "aria-label": `compare ${row.folder}`, "data-key": `tick ${row.at}` });
    box.checked = chosen().includes(row.at);
    box.addEventListener("change", () => choose(row.at, box.checked));
    return box;
  }
  function name(row) {
    const box = node("div"), title = row.name || row.leaf;
    if (row.status === "sweep") {
      const inside = node("a", title, { href: "#" + new URLSearchParams({ in: row.folder }) });
      box.append(inside, small(`${row.folder}, a sweep`));
    } else {
      box.append(row.report ? linkTo(row, "report.html", title) : node("span", title));
      if (row.point) box.append(small(row.point));
      if (row.folder !== title) box.append(small(row.folder));
    }
    if (row.at) {
      const is = opened.has(row.at), more = row.effects.length > 1 ? `all ${row.effects.length + row.more} effects, ` : "";
      const button = node("button", is ? "▾ less" : `▸ ${more}files`, { type: "button", class: "open", "aria-expanded": is, "data-key": `open ${row.at}` });
      button.addEventListener("click", () => { if (is) opened.delete(row.at); else opened.add(row.at); draw(); });
      box.append(button);
    }
    return box;
  }
  function tasks(row) {
    const box = node("div", null, { class: "tasks", title: row.tasks.join(", ") }), [family, ...names] = row.tasks;
    if (family) box.append(family);
    if (names.length) box.append(node("span", `${family ? ": " : ""}${names.join(", ")}`, { class: "small" }));
    return box;
  }
  function effect(row) {
    const best = row.effects[0];
    if (!best) return [];
    const where = `${row.metric}: ${best.intervention} at layer ${best.place}${best.setting ? ", " + best.setting : ""}`;
    const text = node(best.apart ? "b" : "span");
    text.append(...pieces(best.text.split(/ (?=\[)/)));
    return [text, small(where), best.apart ? null : small("not apart from a random control")];
  }
  function statusOf(row) {
    const count = row.notes.length;
    return [
      row.status === "wrong" ? null : node("span", row.status, { class: row.status }),
      row.share === null ? null : progress(row),
      row.told ? small(row.told) : null,
      count ? small(`${count} note${count > 1 ? "s" : ""}`) : null,
    ];
  }
  function progress(row) {
    const box = node("div");
    box.append(node("progress", null, { value: row.share, max: 1, "aria-label": row.told }));
    return box;
  }
  function moment(row) {
    const box = node("div");
    if (row.when !== null) box.append(...pieces(date(row.when).split(" ")));
    return [box, row.took === null ? null : small(span(row.took))];
  }
  function details(row) {
    const line = node("tr", null, { class: "more" }), cell = node("td", null, { colspan: COLUMNS.length }), box = node("div");
    if (row.effects.length) {
      const all = node("table"), titles = node("tr");
      titles.append(...["intervention", "setting", "layer", `effect on ${row.metric}`, "n", "controls there", "CD"].map((text) => node("th", text)));
      all.append(titles);
      for (const each of row.effects) {
        const line_ = node("tr", null, { class: each.apart ? "apart" : "soft" });
        line_.append(...[each.intervention, each.setting || "-", each.place, each.text, each.n, each.controls, each.cd].map((text) => node("td", text)));
        all.append(line_);
      }
      const scroll = node("div", null, { class: "scroll" });
      scroll.append(all);
      box.append(scroll);
      if (row.effects.some((each) => !each.apart)) box.append(small("Those in grey are not apart from their random controls, and stand last."));
      if (row.more) box.append(small(`${row.more} smaller ones are in the report.`));
    }
    if (!row.report && row.status !== "sweep") box.append(node("p", row.status === "running" ? "No report yet: it is written when the run is finished." : "There is no report."));
    for (const note of row.notes) box.append(node("p", note));
    const list = node("p");
    row.files.forEach((file, k) => {
      const link = linkTo(row, file.name, file.name);
      if (/\.(parquet|safetensors)$/.test(file.name)) link.setAttribute("download", "");
      list.append(k ? ", " : "", link, ` ${size(file.bytes)}`);
    });
    if (row.digest) list.append(node("span", `${row.files.length ? "; " : ""}digest ${row.digest}`, { class: "soft" }));
    box.append(list);
    cell.append(box);
    line.append(cell);
    return line;
  }
  function compareBar() {
    const ats = chosen();
    bar.hidden = !ats.length;
    if (!ats.length) return;
    const folders = ats.map((at) => rows.find((row) => row.at === at).folder);
    const query = new URLSearchParams(ats.map((at) => ["run", at]));
    const go = ats.length > 1 ? node("a", `compare ${ats.length} runs`, { href: given.live ? `compare?${query}#explorer` : `compare.html?${query}` }) : node("span", "choose another to compare", { class: "soft" });
    const clear = node("button", "clear", { type: "button", "data-key": "clear" });
    clear.addEventListener("click", () => { state.c = ""; draw(); });
    bar.replaceChildren(go, clear, node("span", folders.join(", "), { class: "small soft" }));
  }
  function draw() {
    const key = document.activeElement && document.activeElement.dataset.key;
    remember();
    controls();
    heads();
    const now = shown();
    body.replaceChildren(...now.flatMap((row) => (row.at && opened.has(row.at) ? [lineOf(row), details(row)] : [lineOf(row)])));
    document.getElementById("count").textContent = rows.length ? `${now.length} of ${rows.length} rows.` : "No run is here yet.";
    document.getElementById("meaning").hidden = !rows.some((row) => row.effects.length);
    compareBar();
    const again = key && document.querySelector(`[data-key="${CSS.escape(key)}"]`);
    if (again) again.focus();
  }

  // ---- the rows again ----
  let last = JSON.stringify(rows);
  function say(text) {
    document.getElementById("said").textContent = text;
  }
  async function ask() {
    if (document.hidden) return;
    try {
      const answer = await fetch("rows.json");
      if (!answer.ok) throw new Error(answer.status);
      rows = await answer.json();
      say("");
    } catch (error) {
      say("The command that serves this page has ended; these are the rows as they were.");
    }
    const text = JSON.stringify(rows);
    if (text !== last) { last = text; draw(); }
  }
  if (given.live) {
    setInterval(ask, PAUSE);
    document.addEventListener("visibilitychange", ask);
  } else say(`As of ${date(given.made)}.`);
  addEventListener("hashchange", () => { settle(); draw(); });
  settle();
  draw();
  table.dataset.ready = "yes";
})();
