"use strict";
// From a point of a curve to the prompts behind it. All text comes in as text nodes, never as markup.
(async function () {
  const root = document.getElementById("explorer");
  const runs = await Promise.all([...root.querySelectorAll("script.run")].map(read));
  const run = runs[0], cells = run.cells, count = cells.layer.length;
  const ADDRESS = location.protocol !== "about:"; // a notebook's frame has none to keep the state in
  const address = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const state = Object.assign({ view: "curve", order: "change" }, JSON.parse(root.dataset.start || "{}"), address());
  const MOST = 30, TAIL = 320, TOP = 5, NOTHING = { rows: new Map() };
  let chart = null, shown = MOST, columns = [];

  // ---- data ----
  async function inflated(text) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }
  async function read(script) { // the run, and ``part(intervention)``: its single queries, opened when they are asked for
    const texts = script.textContent.trim().split(/\s+/), opened = new Map();
    const data = await piece(texts, 0);
    const parts = data.queries ? data.queries.parts : [];
    data.part = (name) => {
      const tokens = 1 + parts.length; // the last piece, where there is one
      if (!opened.has(tokens)) opened.set(tokens, data.queries && data.queries.tokens ? piece(texts, tokens) : null);
      if (!opened.has(name)) opened.set(name, parts.includes(name) ? Promise.all([piece(texts, 1 + parts.indexOf(name)), opened.get(tokens)]).then((both) => placed(...both, data)) : NOTHING);
      return opened.get(name);
    };
    return data;
  }
  async function piece(texts, k) {
    const [json, planes] = await Promise.all([texts[2 * k], texts[2 * k + 1]].map(inflated));
    const size = planes.length / 4, words = new Uint32Array(size);
    for (let i = 0; i < size; i++) words[i] = planes[i] | (planes[size + i] << 8) | (planes[2 * size + i] << 16) | (planes[3 * size + i] << 24);
    const block = new Float32Array(words.buffer);
    return JSON.parse(new TextDecoder().decode(json), (_, value) => (value && value.$ ? column(block, ...value.$) : value));
  }
  function column(block, first, size, times) {
    return times ? new Float32Array(times).fill(block[first]) : block.subarray(first, first + size);
  }
  function placed(part, tokens, data) { // rows: row of cells -> [its set, first of its patched values, of the unedited ones, of its tokens, of the unedited ones]
    let first = 0;
    part.rows = new Map();
    part.at.forEach((row, k) => {
      const set = data.queries.sets[part.of[k]];
      part.rows.set(row, [set, first, part.before[k], part.top[k], tokens ? tokens.clean[part.of[k]] : 0]);
      first += set.query.length;
    });
    part.tokens = tokens;
    return part;
  }
  const word = (column, row) => column.names[column.codes[row]];
  const names = (column, rows) => [...new Set(rows.map((row) => word(column, row)))];
  function rowsOf(data, wanted) {
    const columns_ = Object.entries(wanted).map(([name, value]) => [data.cells[name], value]);
    const coded = columns_.map(([c, value]) => [c, c.names ? c.names.indexOf(value) : value]);
    const found = [];
    for (let row = 0; row < data.cells.layer.length; row++)
      if (coded.every(([c, value]) => (c.names ? c.codes[row] : c[row]) === value)) found.push(row);
    return found;
  }
  const here = (more) => ({ intervention: state.i, setting: state.s, metric: state.m, task: state.t || "", ...more });

  // ---- text ----
  const signed = (v) => (v === undefined || Number.isNaN(v) ? "-" : (v > 0 ? "+" : "") + plain(v));
  const plain = (v) => (v === undefined || Number.isNaN(v) ? "-" : v === 0 ? "0" : Math.abs(v) < 5e-4 ? v.toExponential(0) : String(+v.toFixed(Math.abs(v) < 10 ? 3 : 1)));
  const interval = (row, data = run) => `${signed(data.cells.effect[row])} [${signed(data.cells.ci_low[row])}, ${signed(data.cells.ci_high[row])}]`;
  const unit = () => (run.units[state.m] ? ` (${run.units[state.m]})` : "");
  const place = (row) => `layer${/,/.test(word(cells.layers, row)) ? "s" : ""} ${word(cells.layers, row)}` + (cells.head[row] >= 0 ? `, head ${cells.head[row]}` : "") + `, ${word(cells.position, row)}`;
  function node(tag, text, attributes) {
    const made = document.createElement(tag);
    if (text !== undefined && text !== null) made.textContent = text;
    for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
    return made;
  }
  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();

  // ---- what is chosen ----
  function select(label, key, options, titles) {
    const box = node("label", label + " ");
    const list = node("select", null, { name: key });
    options.forEach((each, k) => list.append(new Option(titles ? titles[k] : each, each, false, each === state[key])));
    list.addEventListener("change", () => { state[key] = list.value; draw(key); });
    box.append(list);
    return box;
  }
  function settle() { // every choice is one that the run has
    const all = [...Array(count).keys()];
    const interventions = run.interventions;
    if (!interventions.includes(state.i)) state.i = interventions[0];
    const mine = all.filter((row) => word(cells.intervention, row) === state.i);
    const settings = names(cells.setting, mine), metrics = names(cells.metric, mine);
    if (!settings.includes(state.s)) state.s = settings[0];
    if (!metrics.includes(state.m)) state.m = metrics.includes(run.metric) ? run.metric : metrics[0];
    const tasks = ["", ...run.tasks];
    if (!tasks.includes(state.t)) state.t = "";
    const rows = rowsOf(run, here({ control: "" }));
    const heads = new Set(rows.map((row) => cells.head[row])), positions = names(cells.position, rows);
    const across = heads.size > 1 ? "head" : positions.length > 1 ? "position" : "";
    const views = across ? [across] : run.tasks.length > 1 ? ["curve", "task"] : ["curve"];
    if (!views.includes(state.view)) state.view = views[0];
    if (!["change", "rise", "fall", "query"].includes(state.order)) state.order = "change";
    return { interventions, settings, metrics, tasks, views };
  }
  function remember() {
    if (!ADDRESS) return;
    const kept = Object.entries(state).filter(([, value]) => value !== "" && value !== undefined);
    history.replaceState(null, "", "#" + new URLSearchParams(kept));
  }

  // ---- curve ----
  function curve(box) {
    const controls = names(cells.control, rowsOf(run, here())).sort((a, b) => order(a) - order(b));
    const layers = [...new Set(rowsOf(run, here()).map((row) => cells.layer[row]))].sort((a, b) => a - b);
    const data = [layers], series = [{ label: "layer" }], bands = [];
    columns = layers;
    function add(label, rows, data_, look) {
      const by = new Map(rows.map((row) => [data_.cells.layer[row], row]));
      const value = (column) => layers.map((l) => (by.has(l) && data_.cells.n[by.get(l)] > 0 ? data_.cells[column][by.get(l)] : null));
      const line = series.length;
      data.push(value("effect"), value("ci_high"), value("ci_low"));
      series.push(
        { label, stroke: look.colour, dash: look.dash, width: look.width, points: { size: 6 }, scale: "y",
          value: (_, v, __, idx) => (idx === null || v === null ? "-" : interval(by.get(layers[idx]), data_)) },
        { class: "bound", stroke: "transparent", points: { show: false }, scale: "y" },
        { class: "bound", stroke: "transparent", points: { show: false }, scale: "y" });
      bands.push({ series: [line + 1, line + 2], fill: look.colour + "22" });
    }
    for (const control of [...controls].reverse()) {
      const line = run.lines[control];
      const own = control === "" && colour("--dark") ? "#56a8e8" : line.colour;
      add(control || "the intervention", rowsOf(run, here({ control })), run, { colour: own, dash: line.dash, width: control ? 1.4 : 2.4 });
    }
    runs.slice(1).forEach((other, k) => {
      const rows = rowsOf(other, here({ control: "" }));
      if (rows.length) add(`in ${other.name}`, rows, other, { colour: ["#D55E00", "#CC79A7", "#E69F00"][k % 3], dash: [6, 3], width: 2.2 });
    });
    const cd = cdAt(state.t);
    if (cd) {
      data.push(layers.map((l) => (cd.has(l) ? cd.get(l)[0] : null)));
      series.push({ label: "CD", stroke: colour("--soft"), dash: [7, 4], width: 1.4, scale: "cd", points: { show: false },
        value: (_, v, __, idx) => (idx === null || v === null ? "-" : `${v.toFixed(2)} [${cd.get(layers[idx])[1].toFixed(2)}, ${cd.get(layers[idx])[2].toFixed(2)}]`) });
    }
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
    const options = {
      width: box.clientWidth, height: 320, series, bands,
      scales: { x: { time: false }, cd: { range: [0, 1] } },
      axes: [{ ...axis, label: "layer", labelSize: 20, incrs: [1, 2, 5, 10, 20], values: (_, at) => at.map((v) => (Number.isInteger(v) ? v : "")) },
        { ...axis, label: `effect on ${state.m}${unit()}`, labelSize: 20, size: 56 },
        ...(cd ? [{ ...axis, scale: "cd", side: 1, label: "CD", labelSize: 20, grid: { show: false } }] : [])],
      cursor: { drag: { x: false, y: false }, focus: { prox: 24 } }, focus: { alpha: 0.35 },
      hooks: { draw: [zero, pinned], setSeries: [together] },
    };
    chart = new uPlot(options, data, box);
    chart.over.addEventListener("click", () => { if (chart.cursor.idx !== null) pin({ l: layers[chart.cursor.idx] }); });
  }
  const order = (control) => Object.keys(run.lines).indexOf(control);
  function zero(u) {
    const y = u.valToPos(0, "y", true);
    if (y < u.bbox.top || y > u.bbox.top + u.bbox.height) return;
    stroke(u, u.bbox.left, y, u.bbox.left + u.bbox.width, y, colour("--soft"));
  }
  function pinned(u) {
    if (state.l === undefined) return;
    const x = u.valToPos(+state.l, "x", true);
    stroke(u, x, u.bbox.top, x, u.bbox.top + u.bbox.height, colour("--mark"));
  }
  function stroke(u, x0, y0, x1, y1, of) {
    u.ctx.save();
    u.ctx.strokeStyle = of;
    u.ctx.lineWidth = devicePixelRatio;
    u.ctx.setLineDash([]);
    u.ctx.beginPath();
    u.ctx.moveTo(x0, y0);
    u.ctx.lineTo(x1, y1);
    u.ctx.stroke();
    u.ctx.restore();
  }
  function together(u, index, change) { // a line's band goes with it
    if (index === null || change.show === undefined || !u.series[index + 1] || u.series[index + 1].class !== "bound") return;
    if (u.series[index].class === "bound") return;
    for (const k of [1, 2]) if (u.series[index + k].show !== change.show) u.setSeries(index + k, { show: change.show });
  }
  function cdAt(task) { // layer -> [cd, low, high] at the largest number of shots
    if (!run.cd) return null;
    const most = Math.max(...run.cd.shots), found = new Map();
    run.cd.layer.forEach((layer, row) => {
      if (run.cd.shots[row] === most && word(run.cd.task, row) === (task || "ALL")) found.set(layer, [run.cd.cd[row], run.cd.ci_low[row], run.cd.ci_high[row]]);
    });
    return found.size ? found : null;
  }

  // ---- maps: heads, positions or tasks by layer ----
  function map(box, across) {
    const rows = across === "task" ? run.tasks.flatMap((task) => rowsOf(run, { ...here({ control: "" }), task })) : rowsOf(run, here({ control: "" }));
    const of = (row) => (across === "head" ? cells.head[row] : word(cells[across], row));
    const layers = [...new Set(rows.map((row) => cells.layer[row]))].sort((a, b) => a - b);
    const ys = [...new Set(rows.map(of))];
    if (across === "head") ys.sort((a, b) => a - b);
    const by = new Map(rows.map((row) => [`${cells.layer[row]} ${of(row)}`, row]));
    const limit = Math.max(1e-9, ...rows.map((row) => Math.abs(cells.effect[row]) || 0));
    const table = node("table", null, { class: "map" }), head = node("tr");
    box.append(node("p", `Effect on ${state.m}${unit()}: ${across} by layer. A dot: the interval leaves out zero.`, { class: "soft" }));
    head.append(node("th", across), ...layers.map((l) => node("th", l)));
    table.append(head);
    for (const y of ys) {
      const line = node("tr");
      line.append(node("th", y));
      for (const l of layers) {
        const row = by.get(`${l} ${y}`), cell = node("td");
        if (row !== undefined && cells.n[row] > 0) {
          const value = cells.effect[row], sure = cells.ci_low[row] > 0 || cells.ci_high[row] < 0;
          const button = node("button", sure ? "•" : "", { type: "button", title: `${place(row)}${across === "task" ? ", " + y : ""}: ${interval(row)}, n ${cells.n[row]}` });
          button.setAttribute("aria-label", button.title);
          const share = Math.min(1, Math.abs(value) / limit);
          button.style.background = `color-mix(in oklab, ${value < 0 ? "#5b3fa8" : "#c05a00"} ${Math.round(100 * share)}%, var(--page))`;
          button.style.color = share > 0.55 ? "#fff" : "inherit";
          const chosen = across === "task" ? { l, t: y } : across === "head" ? { l, h: y } : { l, p: y };
          const is = Object.entries(chosen).every(([key, v]) => String(state[key]) === String(v));
          if (is) button.setAttribute("aria-pressed", "true");
          button.addEventListener("click", () => pin(chosen));
          cell.append(button);
        }
        line.append(cell);
      }
      table.append(line);
    }
    const scroll = node("div", null, { class: "scroll" });
    scroll.append(table);
    box.append(scroll);
  }

  // ---- the prompts behind a point ----
  function pin(at) {
    delete state.h;
    delete state.p;
    Object.assign(state, at);
    shown = MOST;
    draw("pin");
  }
  function behind(part) { // own cells of single tasks at the pinned place
    if (state.l === undefined) return [];
    const tasks = state.t ? [state.t] : run.tasks;
    const at = { control: "", layer: +state.l, ...(state.h !== undefined ? { head: +state.h } : {}), ...(state.p !== undefined ? { position: state.p } : {}) };
    return tasks.flatMap((task) => rowsOf(run, { ...here(at), task })).filter((row) => part.rows.has(row));
  }
  function prompts(box, part) {
    const rows = behind(part);
    if (!rows.length) {
      box.append(node("p", state.l === undefined ? "Click a point, or focus the figure and use the arrow keys, to see its prompts." : "No single queries of this place are in the page.", { class: "soft" }));
      return;
    }
    const metrics = names(cells.metric, rowsOf(run, { intervention: state.i, setting: state.s, control: "" })).filter((m) => m !== state.m);
    const lines = rows.flatMap((row) => {
      const [set, at, from, after_, before_] = part.rows.get(row), task = word(cells.task, row), marks = set.marks[word(cells.position, row)];
      const others = metrics.map((metric) => {
        const same = { intervention: state.i, setting: state.s, control: "", metric, task, layer: cells.layer[row], head: cells.head[row], position: word(cells.position, row) };
        const found = rowsOf(run, same).find((each) => part.rows.has(each));
        return found === undefined ? null : part.rows.get(found);
      });
      return set.query.map((query, k) => {
        const { clean } = run.queries, { patched } = part, before = clean[from + k], after = patched[at + k];
        return { task, query, text: set.text[k], marks: marks[k], answer: set.answer[k], before, after, change: after - before,
          entries: [before_ + k, after_ + k], first: set.first && set.first[k],
          others: others.map((o) => (o === null ? "-" : `${plain(clean[o[2] + k])} → ${plain(patched[o[1] + k])}`)) };
      });
    }).filter((line) => !Number.isNaN(line.change));
    const by = { change: (a, b) => Math.abs(b.change) - Math.abs(a.change), rise: (a, b) => b.change - a.change, fall: (a, b) => a.change - b.change, query: () => 0 };
    lines.sort(by[state.order]);
    const pooled = rowsOf(run, here({ control: "", layer: +state.l, ...(state.h !== undefined ? { head: +state.h } : {}), ...(state.p !== undefined ? { position: state.p } : {}) }))[0];
    const title = node("h3", `${state.i}, ${pooled === undefined ? "layer " + state.l : place(pooled)}${state.t ? ", " + state.t : ""}: ${pooled === undefined ? "" : interval(pooled)}`);
    title.id = "pinned";
    box.append(title);
    const kept = lines.length, all = rows.reduce((sum, row) => sum + part.rows.get(row)[0].of, 0);
    box.append(node("p", `${kept} quer${kept === 1 ? "y" : "ies"}${run.queries.step > 1 ? `, every ${run.queries.step}th of ${all}` : ""}; the edited tokens are marked.${part.tokens ? " Below each the likeliest next tokens, the expected answer marked, and the rank of its first token." : ""}`, { class: "soft" }));
    box.append(select("sorted by", "order", ["change", "rise", "fall", "query"], ["largest change", "largest rise", "largest fall", "query"]));
    const table = node("table", null, { class: "prompts" }), head = node("tr");
    head.append(...["task", "prompt", "answer", `${state.m} before`, "after", "change", ...metrics].map((text) => node("th", text)));
    table.append(head);
    for (const line of lines.slice(0, shown)) {
      const tr = node("tr"), cell = node("td", null, { class: "text" });
      cell.append(promptNode(line.text, line.marks));
      tr.append(node("td", line.task), cell, node("td", line.answer, { class: "text" }), node("td", plain(line.before)), node("td", plain(line.after)), node("td", signed(line.change)), ...line.others.map((text) => node("td", text)));
      table.append(tr);
      if (part.tokens) table.append(topRow(part.tokens, line, 6 + metrics.length));
    }
    const scroll = node("div", null, { class: "scroll" });
    scroll.append(table);
    box.append(scroll);
    if (kept > shown) {
      const more = node("button", `${Math.min(MOST, kept - shown)} more`, { type: "button" });
      more.addEventListener("click", () => { shown += MOST; draw("more"); });
      box.append(more);
    }
  }
  function topRow(tokens, line, width) { // the answer's rank and probability and the likeliest tokens, in the unedited run and under the edit
    const row = node("tr", null, { class: "tokens" }), cell = node("td", null, { colspan: width }), box = node("div");
    box.append(topLine(tokens, "before", line.entries[0], line.first), topLine(tokens, "after", line.entries[1], line.first));
    cell.append(box);
    row.append(cell);
    return row;
  }
  function topLine(tokens, label, entry, first) {
    const { count, texts, ids, chance: chances, rank, answer } = tokens, line = node("div");
    line.append(node("span", rank[entry] ? `${label}: answer ranks ${rank[entry]} (${chance(answer[entry])})` : `${label}: not kept`, { class: "soft" }));
    function add(from, to) {
      for (let k = entry * count + from; k < entry * count + to; k++) {
        const is = ids[k] === first, token = node(is ? "b" : "span", visible(texts[ids[k]]), { class: "token", ...(is ? { title: "the expected answer" } : {}) });
        token.append(" ", node("small", chance(chances[k])));
        line.append(token);
      }
    }
    if (rank[entry]) add(0, Math.min(count, TOP));
    if (rank[entry] && count > TOP) {
      const more = node("button", `${count - TOP} more`, { type: "button" });
      more.addEventListener("click", () => { more.remove(); add(TOP, count); });
      line.append(more);
    }
    return line;
  }
  const chance = (thousandths) => (thousandths < 1 ? "<.001" : thousandths > 999 ? ">.999" : "." + String(thousandths).padStart(3, "0"));
  const visible = (text) => text.replaceAll(" ", "␣").replaceAll("\n", "⏎").replaceAll("\t", "⇥").replace(/[\p{Cc}\p{Cf}\p{Z}]/gu, (c) => `\\u{${c.codePointAt(0).toString(16)}}`) || "(no text)";
  function promptNode(text, marks) {
    const box = node("span");
    const from = text.length > TAIL + 40 ? Math.min(text.length - TAIL, ...marks.map((m) => m[0])) : 0;
    if (from > 0) {
      const whole = node("button", "…", { type: "button", title: "the whole prompt" });
      whole.addEventListener("click", () => box.replaceChildren(...pieces(0)));
      box.append(whole);
    }
    function pieces(start) {
      const parts = [];
      let at = start;
      for (const [a, b] of marks) {
        if (b <= start) continue;
        parts.push(text.slice(at, a), node("mark", text.slice(Math.max(a, start), b).replaceAll("\n", "⏎\n")));
        at = b;
      }
      return [...parts, text.slice(at)];
    }
    box.append(...pieces(from));
    return box;
  }

  // ---- drawing ----
  const choices = root.querySelector(".choices"), figure = root.querySelector(".figure"), below = root.querySelector(".behind");
  function draw(why) {
    const { interventions, settings, metrics, tasks, views } = settle();
    if (why === "i" || why === "s" || why === "view") { delete state.h; delete state.p; }
    remember();
    const focused = document.activeElement && document.activeElement.name;
    if (why !== "more") {
      choices.replaceChildren(
        select("intervention", "i", interventions),
        ...(settings.length > 1 ? [select("at", "s", settings)] : []),
        ...(metrics.length > 1 ? [select("metric", "m", metrics)] : []),
        ...(run.tasks.length > 1 ? [select("task", "t", tasks, ["all tasks", ...run.tasks])] : []),
        ...(views.length > 1 ? [select("as", "view", views, views.map((v) => (v === "curve" ? "curves over layers" : "map of tasks and layers")))] : []));
    }
    if (why === "pin" && state.view === "curve" && chart) chart.redraw();
    else {
      if (chart) chart.destroy();
      chart = null;
      figure.replaceChildren();
      if (state.view === "curve") curve(figure);
      else map(figure, state.view);
    }
    refocus(focused);
    prompted().then(() => refocus(focused));
  }
  function refocus(name) { // on the choice that was drawn anew
    const again = name && root.querySelector(`select[name="${name}"]`);
    if (again && document.activeElement === document.body) again.focus();
  }
  async function prompted() { // what was there stays until the pinned point's queries are open
    below.setAttribute("aria-busy", "true");
    const of = state.i, part = state.l === undefined ? NOTHING : await run.part(of);
    if (of !== state.i) return;
    below.replaceChildren();
    prompts(below, part);
    below.removeAttribute("aria-busy");
  }
  figure.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || state.view !== "curve") return;
    event.preventDefault();
    const at = columns.indexOf(+state.l);
    pin({ l: columns[Math.max(0, Math.min(columns.length - 1, at < 0 ? 0 : at + step))] });
  });
  new ResizeObserver(() => { if (chart && Math.abs(chart.width - figure.clientWidth) > 2) chart.setSize({ width: figure.clientWidth, height: 320 }); }).observe(figure);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw("colours"));
  root.addEventListener("colours", () => draw("colours"));
  addEventListener("hashchange", () => { Object.keys(state).forEach((key) => delete state[key]); Object.assign(state, address()); draw("address"); });
  draw("first");
  root.dataset.ready = "yes";
})().catch((error) => {
  const root = document.getElementById("explorer");
  root.querySelector(".behind").textContent = `The explorer needs a newer browser (${error}). The folder figures/ has the same effects as files.`;
  root.dataset.ready = "no";
});
