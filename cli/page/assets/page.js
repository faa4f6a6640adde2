// The page's own script: it asks for panels, and shows what they say. All text is set as text, never as HTML.
"use strict";

const EVERY = 2000; // milliseconds between two questions about what changes fast
const SLOWLY = 20000; // and about what changes slowly
const PATIENCE = 30000; // how long an answer may take
const HEIGHT = 190;
const NEWEST = 8; // decisions that are shown without a click

const saved = JSON.parse(document.getElementById("saved")?.textContent ?? "null");
const byId = (id) => document.getElementById(id);

/** Make an element. Children are elements or texts. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== false && value !== undefined && value !== "") made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function setText(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

const utc = (seconds, from, to) => new Date(seconds * 1000).toISOString().slice(from, to).replace("T", " ");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// Asking ------------------------------------------------------------------------------------------------------------

/** Return a panel: its data, or its fault. */
async function ask(panel, pool) {
  const query = pool === undefined ? "" : `?pool=${encodeURIComponent(pool)}`;
  if (saved) return saved.panels[panel + query] ?? { data: null, fault: saved.absent };
  try {
    const answer = await fetch(`api/${panel}${query}`, { signal: AbortSignal.timeout(PATIENCE), cache: "no-store" });
    if (!answer.ok) return { data: null, fault: `The command answered ${answer.status}.`, silent: true };
    return await answer.json();
  } catch {
    return { data: null, fault: "The command spotpools page does not answer. Is it still running?", silent: true };
  }
}

/** Ask again and again until the view changes; not while nobody looks. */
function follow(view, every, look) {
  let timer = 0;
  const next = async () => {
    clearTimeout(timer);
    if (view.over) return;
    if (!document.hidden) await look();
    if (!view.over && !saved) timer = setTimeout(next, every);
  };
  view.onSeen.push(next);
  next();
}

let view = { over: true, onSeen: [] };
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) view.onSeen.forEach((next) => next());
});

// How fresh the page is ---------------------------------------------------------------------------------------------

let answeredAt = 0; // when the last good answer came, by this browser's clock

function fresh(at, fault) {
  const place = byId("freshness");
  if (!fault) answeredAt = Date.now();
  const late = Math.round((Date.now() - answeredAt) / 1000);
  const time = at ? `${at.slice(11, 19)} UTC` : "";
  place.className = `freshness ${fault ? "old" : saved ? "" : "live"}`;
  if (saved) setText(place, `Saved ${at.slice(0, 16).replace("T", " ")} UTC; it does not refresh`);
  else if (!fault) setText(place, `Live, ${time}`);
  else setText(place, answeredAt ? `Not refreshed for ${late} s: showing older data` : "No data");
  const trouble = byId("trouble");
  trouble.hidden = !fault;
  setText(trouble, fault ?? "");
}

// Charts ------------------------------------------------------------------------------------------------------------

const charts = new Map(); // place -> how to draw it again

function draw(place, make) {
  charts.get(place)?.chart?.destroy();
  const chart = make(Math.max(120, place.clientWidth));
  charts.set(place, { chart, make });
  return chart;
}

function forget(within) {
  for (const [place, { chart }] of charts) {
    if (within.contains(place)) {
      chart.destroy();
      charts.delete(place);
    }
  }
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const [place, { make }] of charts) draw(place, make);
  legends();
});
let resizing = 0;
addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(() => {
    for (const [place, { make }] of charts) draw(place, make);
  }, 150);
});

const stepped = (u, seriesIndex, from, to) => uPlot.paths.stepped({ align: 1 })(u, seriesIndex, from, to);
const FONT = "12px system-ui, sans-serif";

function axes(format) {
  const common = { stroke: colour("soft"), font: FONT, grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false } };
  const moments = (_, splits, __, ___, step) =>
    splits.map((at) => (step >= 86400 ? utc(at, 5, 10) : utc(at, 11, 16)));
  return [
    { ...common, values: moments, space: 60, size: 30, grid: { show: false } },
    { ...common, values: (_, splits) => splits.map(format), size: 52 },
  ];
}

function sizeSeries() {
  return [
    {},
    { label: "running", stroke: colour("running"), fill: colour("running-fill"), width: 2, paths: stepped, points: { show: false } },
    { label: "wanted", stroke: colour("wanted"), width: 1.5, dash: [5, 4], paths: stepped, points: { show: false } },
  ];
}

const fromZero = (_, low, high) => [0, Math.max(1, (high ?? 0) * 1.15)];

function sizesChart(place, times, sizes, small) {
  const data = [times, sizes.running, sizes.wanted];
  draw(place, (width) =>
    new uPlot({
      width, height: small ? 30 : HEIGHT, tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
      legend: { show: false }, cursor: { show: !small, points: { show: false }, drag: { x: false, y: false } },
      padding: small ? [2, 0, 2, 0] : [8, 18, 0, 0],
      scales: { y: { range: fromZero } }, series: sizeSeries(),
      axes: small ? [{ show: false }, { show: false }] : axes((size) => (Number.isInteger(size) ? String(size) : "")),
    }, data, place));
}

const DASHES = [[], [7, 3], [2, 3], [10, 3, 2, 3]];

function pricesChart(place, found, caps) {
  const names = Object.keys(found.lines);
  const cap = caps.length === 1 ? caps[0] : null;
  const data = [found.times, ...names.map((name) => found.lines[name])];
  if (cap !== null) data.push(found.times.map(() => cap));
  draw(place, (width) => {
    const series = names.map((name, number) => ({
      label: name, stroke: colour(`s${number}`), width: 1.6, dash: DASHES[number % DASHES.length], paths: stepped,
      points: { show: false },
    }));
    if (cap !== null) series.push({ label: "cap", stroke: colour("cap"), width: 2.5, points: { show: false } });
    const around = (_, low, high) => {
      const space = (high - low) * 0.12 || high * 0.1 || 0.01;
      return [Math.max(0, low - space), high + space];
    };
    return new uPlot({
      width, height: HEIGHT + 40, tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"), legend: { show: false },
      cursor: { points: { show: false }, drag: { x: false, y: false } }, padding: [8, 18, 0, 0],
      scales: { y: { range: around } }, series: [{}, ...series], axes: axes((price) => String(Number(price.toPrecision(3)))),
    }, data, place);
  });
}

const SVG = "http://www.w3.org/2000/svg";

/** A legend's entry: a piece of the line, its name and its newest value. */
function legendEntry(stroke, dash, name, value) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "line");
  for (const [key, at] of [["x1", 0], ["x2", 22], ["y1", 4], ["y2", 4]]) line.setAttribute(key, at);
  line.setAttribute("stroke-width", 2.5);
  line.setAttribute("stroke-dasharray", dash.join(" "));
  line.dataset.stroke = stroke;
  svg.append(line);
  return element("li", {}, svg, `${name} `, value === undefined ? "" : element("b", {}, String(value)));
}

function legends() {
  for (const line of document.querySelectorAll("line[data-stroke]")) line.setAttribute("stroke", colour(line.dataset.stroke));
}

// The list ----------------------------------------------------------------------------------------------------------

const rows = new Map(); // pool -> its row
let fleetSizes = null;
let lastFleet = null;

const link = (pool) => `#/pool/${encodeURIComponent(pool)}`;

function newRow(line) {
  const cell = (name, label) => element("td", { class: name, "data-label": label });
  const made = {
    anchor: element("a", { href: link(line.pool) }), sizes: cell("number sizes", "running / wanted"), spark: cell("spark none"),
    waiting: cell("number short", "waiting"), price: cell("mono", "price / cap"), cost: cell("number", "USD/h"), why: cell("why", "why"),
  };
  made.sparkline = element("div", { class: "sparkline" });
  made.spark.append(made.sparkline);
  made.row = element("tr", {}, element("th", { scope: "row" }, made.anchor), made.sizes, made.spark, made.waiting, made.price, made.cost, made.why);
  made.row.dataset.pool = line.pool;
  return made;
}

function fill(made, line) {
  made.line = line;
  if (made.row.className !== line.style) made.row.className = line.style;
  setText(made.anchor, line.name);
  setText(made.sizes, `${line.running} / ${line.wanted}`);
  setText(made.waiting, line.waiting ? String(line.waiting) : "");
  setText(made.price, line.price);
  made.price.className = `mono${line.above_cap ? " above" : ""}${line.price === "-" ? " none" : ""}`;
  setText(made.cost, line.cost);
  setText(made.why, line.why);
}

/** Draw a row's sizes when it is first seen: two hundred charts at once would be slow. */
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const made = rows.get(entry.target.dataset.pool);
    if (made) made.visible = entry.isIntersecting;
    if (made?.visible) spark(made);
  }
}, { rootMargin: "100px" });

function spark(made) {
  const sizes = fleetSizes?.pools[made.line.pool];
  const now = `${made.line.running}/${made.line.wanted}`;
  if (!made.visible || !sizes || (made.drawn === fleetSizes && made.drawnNow === now)) return;
  // The newest period is what the status says now; CloudWatch has it some minutes later.
  const last = (some, value) => [...some.slice(0, -1), value];
  const shown = { running: last(sizes.running, made.line.running), wanted: last(sizes.wanted, made.line.wanted) };
  made.spark.classList.remove("none"); // before it is drawn, so that it has a width
  sizesChart(made.sparkline, fleetSizes.times, shown, true);
  made.drawn = fleetSizes;
  made.drawnNow = now;
  const known = shown.running.filter((size) => size !== null);
  made.sparkline.setAttribute("role", "img");
  made.sparkline.setAttribute("aria-label", `in the last 6 h between ${Math.min(...known)} and ${Math.max(...known)} running`);
}

function choose() {
  const text = byId("filter").value.trim().toLowerCase();
  let shown = 0;
  for (const { row, line } of rows.values()) {
    row.hidden = !(line.name.toLowerCase().includes(text) && (line.style || !byId("only").checked));
    shown += row.hidden ? 0 : 1;
  }
  setText(byId("count"), shown === rows.size ? "" : `${shown} of ${rows.size} pools`);
}

function total(label, value, style) {
  return element("li", { class: style }, element("b", {}, String(value)), label);
}

const showStack = ({ stack, region }) => setText(byId("stack"), `stack ${stack}, ${region}`);

function showFleet(fleet) {
  lastFleet = fleet;
  showStack(fleet);
  const body = byId("pools").tBodies[0];
  const present = new Set(fleet.pools.map((line) => line.pool));
  for (const [pool, made] of rows) {
    if (present.has(pool)) continue;
    forget(made.row);
    seen.unobserve(made.row);
    made.row.remove();
    rows.delete(pool);
  }
  fleet.pools.forEach((line, place) => {
    let made = rows.get(line.pool);
    if (!made) {
      made = newRow(line);
      rows.set(line.pool, made);
      seen.observe(made.row);
    }
    fill(made, line);
    if (body.children[place] !== made.row) body.insertBefore(made.row, body.children[place] ?? null);
    spark(made);
  });
  choose();
  const style = fleet.troubled ? "yellow" : "";
  const totals = [["in trouble", fleet.troubled, style], ["running / wanted", `${fleet.running} / ${fleet.wanted}`], ["pools", fleet.pools.length], ["USD an hour", fleet.cost]];
  const text = JSON.stringify(totals);
  if (byId("totals").dataset.shown !== text) {
    byId("totals").dataset.shown = text;
    byId("totals").replaceChildren(...totals.map((one) => total(...one)));
  }
  for (const id of ["totals", "choose"]) byId(id).hidden = false;
  byId("pools").hidden = fleet.pools.length === 0;
  showNotes(fleet);
  const count = fleet.troubled === 1 ? "1 pool in trouble" : `${fleet.troubled} pools in trouble`;
  setText(byId("announcer"), count);
  document.title = `${fleet.troubled ? `(${fleet.troubled}) ` : ""}Spot Pools`;
}

let sizesNote = "";

function showNotes(fleet) {
  const notes = [...(fleet?.notes ?? []), ...(sizesNote ? [sizesNote] : []), ...(fleet && !fleet.pools.length ? ["No pools yet."] : [])];
  const place = byId("notes");
  if (place.dataset.shown === notes.join("\n")) return;
  place.dataset.shown = notes.join("\n");
  place.replaceChildren(...notes.map((note) => element("p", {}, note)));
}

function openList(mine) {
  byId("list").hidden = false;
  follow(mine, EVERY, async () => {
    const { data, fault } = await ask("fleet");
    if (mine.over) return;
    if (data) showFleet(data);
    fresh(data?.at ?? lastFleet?.at, fault);
  });
  follow(mine, SLOWLY, async () => {
    const { data, fault, silent } = await ask("sizes");
    if (mine.over || silent) return;
    if (data) fleetSizes = data;
    sizesNote = fault ? `No sizes over time: ${fault}` : data.note;
    showNotes(lastFleet);
    rows.forEach(spark);
  });
}

// One pool ----------------------------------------------------------------------------------------------------------

/** A card that shows a panel, and is made anew only if the panel says something new. */
function card(title, show) {
  const content = element("div");
  const made = element("section", { class: "card", "aria-label": title }, element("h2", {}, title), content);
  let shown = null;
  return {
    element: made,
    show({ data, fault, silent }) {
      const text = JSON.stringify([data, fault]);
      if (silent || text === shown) return;
      shown = text;
      if (fault) {
        forget(content);
        content.replaceChildren(element("p", { class: "fault" }, fault));
        return;
      }
      const open = content.querySelector("details")?.open ?? false;
      forget(content);
      content.replaceChildren();
      show(content, data);
      const details = content.querySelector("details");
      if (details) details.open = open;
      legends();
    },
  };
}

function table(head, lines, caption) {
  const cell = (value, place, name) => {
    const text = value instanceof Node ? value : String(value);
    return element(name, { class: head[place].startsWith("#") ? "number" : "", "data-label": head[place].replace("#", ""), scope: name === "th" ? "row" : "" }, text);
  };
  const heads = head.map((name) => element("th", { scope: "col", class: name.startsWith("#") ? "number" : "" }, name.replace("#", "")));
  const body = lines.map((line) => element("tr", {}, ...line.map((value, place) => cell(value, place, place ? "td" : "th"))));
  return element("table", { class: "cards" }, element("caption", { class: "unseen" }, caption), element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...body));
}

function showStory(place, { story }) {
  place.className = "story";
  for (const part of story) {
    if (part.kind === "head") place.append(element("h3", {}, part.text));
    else if (part.kind === "line") place.append(element("p", { class: "line" }, element("b", {}, part.label), element("span", { class: part.style }, part.text)));
    else place.append(element("p", { class: `${part.kind} ${part.style}` }, part.text));
  }
}

function showInstances(place, { instances }) {
  if (!instances.length) return place.append(element("p", { class: "dim" }, "No instances."));
  const lines = instances.map((one) => [one.id, one.type, one.zone, one.market, one.age, element("span", { class: one.ready ? "green" : "yellow" }, one.state), one.notes]);
  place.append(table(["instance", "type", "zone", "market", "age", "state", "remarks"], lines, "Instances"));
}

function showNotices(place, { notices }) {
  if (!notices.length) return place.append(element("p", { class: "dim" }, "No notices of EC2."));
  place.append(table(["time", "instance", "notice", "offering"], notices.map((one) => [one.at, one.instance, one.what, one.offering]), "Notices of EC2"));
}

function showItem(place, { item }) {
  const text = item ? element("pre", { tabindex: "0", "aria-label": "The item as YAML" }, item) : element("p", { class: "dim" }, "The item is deleted.");
  place.append(element("details", {}, element("summary", {}, "The item as YAML"), text));
}

function showPoolSizes(place, { times, pools, note }) {
  const [sizes] = Object.values(pools);
  if (!sizes) return place.append(element("p", { class: "dim" }, note));
  const newest = (some) => some.findLast((size) => size !== null) ?? "-";
  const known = sizes.running.filter((size) => size !== null);
  const words = known.length ? `Running in the last 24 h: between ${Math.min(...known)} and ${Math.max(...known)}.` : "";
  place.append(
    element("ul", { class: "legend" }, legendEntry("running", [], "running, lowest of five minutes", newest(sizes.running)), legendEntry("wanted", [5, 4], "wanted", newest(sizes.wanted))),
    element("div", { class: "chart", role: "img", "aria-label": `Sizes over the last 24 hours. ${words}` }),
  );
  sizesChart(place.lastChild, times, sizes, false);
}

// Rounded down: only what was always so is 100 %.
const percent = (share) => (share === null ? "-" : share === 1 ? "100 %" : `${(Math.floor(share * 1000) / 10).toFixed(1)} %`);

function showPrices(place, found) {
  const days = Math.round((Date.parse(found.until) - Date.parse(found.since)) / 86400000);
  const lasting = days >= 1 ? `${days} d` : "day";
  const caps = [...new Set(found.offerings.map((one) => one.cap).filter((cap) => cap !== null))].map(Number);
  if (!found.offerings.length) {
    place.append(element("p", { class: "dim" }, "EC2 has no spot prices for what the pool may launch."));
  } else {
    const sentence = found.cap === null
      ? "The pool has no cap of its own: EC2's own cap applies, the on-demand price."
      : `At the cap of ${found.cap}, at least one offering was affordable ${percent(found.within)} of the last ${lasting}.`;
    place.append(element("p", { class: "big" }, sentence));
    const entries = Object.keys(found.lines).map((name, number) => legendEntry(`s${number}`, DASHES[number % DASHES.length], name, found.lines[name].at(-1) ?? "-"));
    if (caps.length === 1) entries.push(legendEntry("cap", [], "cap", caps[0]));
    const label = `Spot prices since ${found.since.slice(0, 10)}. ${sentence} The tables below have the numbers.`;
    const chart = element("div", { class: "chart", role: "img", "aria-label": label });
    const drawn = element("div", {}, element("ul", { class: "legend" }, ...entries), chart);
    const numbers = element("div");
    place.append(element("div", { class: "beside" }, drawn, numbers));
    pricesChart(chart, found, caps);
    drawn.append(element("h3", {}, "What a cap buys"), table(["cap", "#at least one offering affordable"], found.buys.map((one) => [Number(one.cap).toFixed(4), percent(one.share)]), "What a cap buys"));
    const lines = found.offerings.map((one) => [one.offering, Number(one.now).toFixed(4), Number(one.lowest).toFixed(4), Number(one.highest).toFixed(4), one.cap === null ? "-" : String(Number(one.cap)), percent(one.within)]);
    numbers.append(element("h3", {}, "Offerings"), table(["offering", "#now", "#lowest", "#highest", "#cap", "#within the cap"], lines, "Offerings"));
  }
  for (const note of found.notes) place.append(element("p", { class: "yellow" }, note));
}

function showDecisions(place, { decisions, note }) {
  if (note) place.append(element("p", { class: "dim" }, note));
  const entry = ({ when, sizes, texts }) =>
    element("li", { class: "decision" }, element("time", {}, when), element("span", { class: "mono" }, sizes), element("div", {}, ...texts.map((one) => element("p", { class: one.style }, one.text))));
  const list = (some) => element("ol", { class: "decisions" }, ...some.map(entry));
  place.append(list(decisions.slice(0, NEWEST)));
  if (decisions.length > NEWEST) {
    const older = decisions.slice(NEWEST);
    place.append(element("details", {}, element("summary", {}, `${older.length} older`), list(older)));
  }
}

function openPool(mine, pool) {
  const place = byId("pool");
  place.hidden = false;
  const story = card("Now", showStory), instances = card("Instances", showInstances), notices = card("Notices", showNotices), item = card("Item", showItem);
  const sizes = card("Sizes over the last 24 hours", showPoolSizes), prices = card("Price against cap", showPrices), decisions = card("Decisions of the last 24 hours", showDecisions);
  const heading = element("h1", { tabindex: "-1" }, pool);
  const left = element("div", { class: "column" }, story.element);
  const right = element("div", { class: "column" }, sizes.element, notices.element, item.element);
  for (const wide of [instances, prices, decisions]) wide.element.classList.add("wide");
  forget(place);
  place.replaceChildren(
    element("div", { class: "pool-head" }, element("a", { href: "#/" }, "← All pools"), heading),
    element("div", { class: "panels" }, left, right, instances.element, prices.element, decisions.element),
  );
  heading.focus({ preventScroll: true });
  let at = null;
  follow(mine, EVERY, async () => {
    const answer = await ask("pool", pool);
    if (mine.over) return;
    at = answer.data?.at ?? at;
    if (answer.data) {
      setText(heading, answer.data.name);
      showStack(answer.data);
    }
    [story, instances, notices, item].forEach((one) => one.show(answer));
    fresh(at, answer.silent ? answer.fault : "");
  });
  const slow = (panel, shown, every) => follow(mine, every, async () => {
    const answer = await ask(panel, pool);
    if (!mine.over) shown.show(answer);
  });
  slow("pool-sizes", sizes, SLOWLY);
  slow("prices", prices, SLOWLY * 6);
  slow("decisions", decisions, EVERY * 2);
  document.title = `${pool} - Spot Pools`;
}

// Which view --------------------------------------------------------------------------------------------------------

function open() {
  const [, pool] = location.hash.match(/^#\/pool\/(.+)$/) ?? [];
  if (location.hash === "#main") return byId("main").focus();
  view.over = true;
  view = { over: false, onSeen: [] };
  byId("list").hidden = true;
  byId("pool").hidden = true;
  if (pool) openPool(view, decodeURIComponent(pool));
  else openList(view);
  scrollTo(0, 0);
}

byId("filter").addEventListener("input", choose);
byId("only").addEventListener("change", choose);
byId("choose").addEventListener("submit", (event) => event.preventDefault());
addEventListener("hashchange", open);
open();
