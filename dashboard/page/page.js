// The page shows what /dashboard/feed sends: a frame each second, and the requests that are new. All text goes in as text,
// never as markup. The token is in the variable below and nowhere else.
let token = "";
let stream = null; // AbortController of the present connection
let paused = false;
let wait = 1; // seconds until the next try
let retry = 0;
let requests = [];
const states = new Map(); // of targets, to say what has changed

const feed = "/dashboard/feed";
const silence = 5000; // ms without a frame after which the connection is taken for dead
const kept = 50;

const $ = (id) => document.getElementById(id);

// ---- words

const count = new Intl.NumberFormat("en", {notation: "compact", maximumFractionDigits: 1});
const whole = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat(undefined, {hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false});
const day = new Intl.DateTimeFormat(undefined, {dateStyle: "medium", timeStyle: "medium", hour12: false});
const none = "–";

const number = (n) => n < 10000 ? whole.format(n) : count.format(n);
const rate = (n) => n && n < 1 ? n.toPrecision(1) : n.toFixed(n < 10 ? 1 : 0);
const percent = (share) => share > 0 && share < 0.01 ? "<1 %" : Math.round(100 * share) + " %";

function took(ms) {
  if (!ms) return none;
  if (ms < 10) return ms.toFixed(1) + " ms";
  if (ms < 1000) return Math.round(ms) + " ms";
  return ms < 100000 ? (ms / 1000).toFixed(ms < 10000 ? 2 : 1) + " s" : Math.round(ms / 1000) + " s";
}

function dollars(usd) {
  if (!usd) return none;
  return usd < 0.0001 ? "<$0.0001" : "$" + (usd < 0.1 ? usd.toFixed(4) : usd.toFixed(2));
}

const pair = (a, b) => a || b ? number(a) + " / " + number(b) : none;
const quantiles = (t) => t ? took(t.p50) + " / " + took(t.p99) : none;

// ---- what is shown

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function mark(node, kind, text) {
  put(node, text);
  const name = ("badge " + kind).trim();
  if (node.className !== name) node.className = name;
}

// fill makes the rows of a table what they are now. Rows and cells stay where they are, so that whoever reads them, by eye
// or by a screen reader, is not thrown out. A cell is a text, or {text, small, badge, bar, class}.
function fill(id, rows) {
  const table = $(id), body = table.tBodies[0], heads = table.tHead.rows[0].cells;
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((cells, y) => {
    let row = body.rows[y];
    if (!row) {
      row = body.insertRow();
      row.setAttribute("role", "row");
      cells.forEach((_, x) => {
        const cell = document.createElement(x === 0 ? "th" : "td");
        cell.setAttribute("role", x === 0 ? "rowheader" : "cell");
        if (x === 0) cell.scope = "row";
        cell.dataset.label = heads[x].textContent.replace(/\s+/g, " ");
        row.append(cell);
      });
    }
    cells.forEach((c, x) => show(row.cells[x], typeof c === "object" ? c : {text: c}, heads[x].className));
  });
}

function show(cell, c, like) {
  const key = JSON.stringify(c);
  if (cell.key === key) return;
  cell.key = key;
  cell.className = [like, c.class, c.text === none || c.text === "" ? "none" : ""].join(" ").trim();
  cell.replaceChildren();
  if (c.bar !== undefined) {
    const bar = document.createElement("span"), part = document.createElement("span");
    bar.className = "bar";
    bar.setAttribute("aria-hidden", "true");
    part.style.width = Math.round(100 * c.bar) + "%";
    bar.append(part);
    cell.append(bar);
  }
  const text = document.createElement("span");
  text.textContent = c.text;
  if (c.badge !== undefined) text.className = ("badge " + c.badge).trim();
  cell.append(text);
  if (c.small) {
    const small = document.createElement("small");
    small.textContent = c.small;
    cell.append(small);
  }
}

const healthKinds = {up: "good", ejected: "bad", down: "bad", cooling: "warn", drained: "", unknown: ""};
const healthKind = (state) => healthKinds[state] ?? "bad"; // any other word is what an operator has to see to
const stateKinds = {applied: "good", offered: "warn", accepted: "warn", rejected: "bad"};

function showFrame(f) {
  $("shown").hidden = false;
  $("login").hidden = true;
  document.title = (f.status.ready ? "" : "not ready – ") + "Millrace";
  mark($("ready"), f.status.ready ? "good" : "bad", f.status.ready ? "ready" : "not ready");
  mark($("config"), stateKinds[f.status.state] ?? "", "configuration " + f.status.state);
  put($("envoy"), f.status.envoy ? "Envoy " + f.status.envoy : "Envoy is not connected");
  put($("release"), "Millrace " + f.status.release);
  showTroubles(f);
  const spent = f.totals.usd > 0;
  const many = new Set(f.targets.map((t) => t.gateway)).size > 1;
  for (const n of document.querySelectorAll("dl .cost, figure.cost, thead .cost")) n.hidden = !spent;
  showTotals(f.totals);
  showCharts(f.series);
  showTargets(f);
  fill("policies", f.policies.map((p) => [{text: p.policy, small: many ? p.gateway : ""}, p.kind, p.phase, p.pass, p.flag, p.redact, p.block, p.error, p.observed].map((v) => typeof v === "number" ? number(v) : v)));
  $("policies").hidden = f.policies.length === 0;
  $("policies-none").hidden = f.policies.length > 0;
  put($("version"), "Version " + f.status.version + (f.status.revision ? ", revision " + f.status.revision + " of the store" : "") + ": " + f.status.state +
    (f.status.warnings ? ". Warnings: " + f.status.warnings + " (millrace status lists them)" : "") + ".");
  fill("versions", f.versions.map((v) => [String(v.revision), {text: v.state || "earlier", badge: stateKinds[v.state] ?? "", class: "first"}, {text: day.format(new Date(v.time)), class: "wide"}, {text: v.cause, class: "wide"}]));
  $("versions").hidden = f.versions.length === 0;
  hideCosts();
  letScroll();
}

// letScroll makes what does not fit into its place a stop of the keyboard, so that it can be scrolled.
function letScroll() {
  for (const box of document.querySelectorAll(".scroll")) {
    const large = box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1;
    if (large === box.hasAttribute("tabindex")) continue;
    if (large) {
      box.tabIndex = 0;
      box.setAttribute("role", "group");
      box.setAttribute("aria-labelledby", box.firstElementChild.getAttribute("aria-labelledby"));
    } else {
      for (const name of ["tabindex", "role", "aria-labelledby"]) box.removeAttribute(name);
    }
  }
}

function showTroubles(f) {
  const list = f.status.reason ? ["Envoy has refused the last configuration: " + f.status.reason, ...f.status.troubles] : f.status.troubles;
  const ul = $("troubles");
  ul.hidden = list.length === 0;
  if (ul.key === list.join("\n")) return;
  ul.key = list.join("\n");
  ul.replaceChildren(...list.map((text) => {
    const li = document.createElement("li");
    li.textContent = text;
    return li;
  }));
}

function showTotals(t) {
  const minutes = t.seconds / 60;
  put($("t-requests"), number(t.requests));
  put($("t-rate"), rate(t.requests / t.seconds) + " a second");
  put($("t-errors"), number(t.errors));
  put($("t-errors-share"), t.requests ? percent(t.errors / t.requests) + " of them" : none);
  put($("t-first"), took(t.first_token?.p50));
  put($("t-first-p99"), "p99 " + took(t.first_token?.p99));
  put($("t-latency"), took(t.latency?.p50));
  put($("t-latency-p99"), "p99 " + took(t.latency?.p99));
  put($("t-tokens"), number(t.input + t.output));
  put($("t-tokens-parts"), number(t.input) + " in, " + number(t.output) + " out");
  put($("t-cost"), dollars(t.usd));
  put($("t-cost-rate"), dollars(t.usd / minutes * 60) + " an hour");
  put($("t-active"), number(t.active));
}

function showTargets(f) {
  const many = new Set(f.targets.map((t) => t.gateway)).size > 1;
  const changes = [];
  fill("targets", f.targets.map((t) => {
    const name = (many ? t.gateway + " / " : "") + t.upstream + " / " + t.target, before = states.get(name);
    if (before && before !== t.state) changes.push(name + " is " + t.state);
    states.set(name, t.state);
    return [
      {text: t.target, small: (many ? t.gateway + " / " : "") + t.upstream + (t.provider ? ", " + t.provider : "") + (t.priority ? ", priority " + t.priority : "")},
      {text: t.state, badge: healthKind(t.state), class: "first"},
      {text: t.attempts ? percent(t.share) : none, bar: t.share, class: "fit"},
      number(t.attempts), t.attempts ? {text: number(t.errors), small: t.errors ? " " + percent(t.errors / t.attempts) : ""} : none,
      {text: quantiles(t.first_token), class: "wide"}, {text: quantiles(t.latency), class: "wide"}, {text: pair(t.input, t.output), class: "wide"}, dollars(t.usd), number(t.active),
    ];
  }));
  $("targets-hidden").hidden = !f.hidden;
  put($("targets-hidden"), "And " + f.hidden + " more, which are up.");
  if (changes.length) announce(changes.slice(0, 5).join(", "));
}

function showRequests(list) {
  requests = [...list.reverse(), ...requests].slice(0, kept);
  fill("requests", requests.map((r) => [
    {text: clock.format(new Date(r.time)), class: "fit"},
    {text: r.status ? String(r.status) : "left", badge: !r.status ? "warn" : r.status < 400 ? "good" : r.status < 500 ? "warn" : "bad", class: "first"},
    {text: r.model || none, class: "wide"},
    {text: (r.attempts ?? []).map((a) => a.target + (a.reason ? " (" + a.reason + ")" : a.status >= 400 ? " (" + a.status + ")" : "")).join(" → ") || none, class: "wide"},
    took(r.first_token_ms), took(r.duration_ms), {text: pair(r.input, r.output), class: "wide"}, dollars(r.usd), {text: r.key || none, class: "key"}, {text: (r.verdicts ?? []).join(", ") || none, class: "wide"},
  ]));
  $("requests").hidden = requests.length === 0;
  $("requests-none").hidden = requests.length > 0;
  hideCosts();
  letScroll();
}

// announce says something to screen readers. It is used for what changes seldom.
function announce(text) { $("announce").textContent = text; }

// ---- charts: 60 steps; height 100

const svgSpace = "http://www.w3.org/2000/svg";

function showCharts(s) {
  const last = (list) => list[list.length - 2] ?? 0; // the last step that is complete
  const perSecond = (n) => rate(n / s.step_seconds) + "/s";
  chart("c-requests", "Requests", (n) => perSecond(n), [
    {name: "served", color: "c0", values: s.requests.map((n, i) => n - s.errors[i])},
    {name: "failed", color: "cbad", values: s.errors},
  ], "bars", last);
  chart("c-latency", "Times, median", took, [
    {name: "first token", color: "c0", values: s.first_token},
    {name: "whole answer", color: "c1", values: s.latency},
  ], "lines", last);
  chart("c-tokens", "Tokens", (n) => number(Math.round(n / s.step_seconds)) + "/s", [
    {name: "in", color: "c0", values: s.input},
    {name: "out", color: "c1", values: s.output},
  ], "bars", last);
  chart("c-cost", "Cost", (n) => dollars(n), [{name: "each " + s.step_seconds + " s", color: "c0", values: s.usd}], "bars", last);
}

function chart(id, title, word, lines, kind, last) {
  const figure = $(id);
  if (!figure.firstChild) build(figure, title, lines, kind);
  const steps = lines[0].values.length;
  const sums = lines[0].values.map((_, i) => lines.reduce((sum, l) => sum + l.values[i], 0));
  const top = Math.max(...(kind === "bars" ? sums : lines.flatMap((l) => l.values)));
  put(figure.querySelector(".chart span"), top ? word(top) : "");
  const below = new Array(steps).fill(0);
  lines.forEach((l, n) => {
    put(figure.querySelectorAll("figcaption span")[n], l.name + " " + word(last(l.values)));
    figure.querySelectorAll("path")[n].setAttribute("d", kind === "bars" ? bars(l.values, below, top) : line(l.values, top));
  });
  figure.querySelector("svg").setAttribute("aria-label", title + " in the last 5 minutes: at most " + (top ? word(top) : "none") + "; now " +
    lines.map((l) => l.name + " " + word(last(l.values))).join(", "));
}

function build(figure, title, lines, kind) {
  const caption = document.createElement("figcaption"), head = document.createElement("b");
  head.textContent = title;
  caption.append(head);
  const svg = document.createElementNS(svgSpace, "svg");
  svg.setAttribute("viewBox", "0 0 300 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  for (const l of lines) {
    const entry = document.createElement("div"), color = document.createElement("i"), text = document.createElement("span");
    color.className = l.color;
    color.setAttribute("aria-hidden", "true");
    entry.append(color, text);
    caption.append(entry);
    const path = document.createElementNS(svgSpace, "path");
    path.setAttribute("class", (kind === "bars" ? "bars " : "line ") + l.color);
    svg.append(path);
  }
  const box = document.createElement("div"), most = document.createElement("span"), axis = document.createElement("div");
  box.className = "chart";
  most.setAttribute("aria-hidden", "true");
  box.append(svg, most);
  axis.className = "axis";
  axis.setAttribute("aria-hidden", "true");
  for (const text of ["5 min ago", "now"]) {
    const at = document.createElement("span");
    at.textContent = text;
    axis.append(at);
  }
  figure.append(caption, box, axis);
}

function bars(values, below, top) {
  const width = 300 / values.length;
  return values.map((v, i) => {
    if (!v) return "";
    const from = 100 - 88 * below[i] / top, height = 88 * v / top;
    below[i] += v;
    return `M${(i * width + 0.5).toFixed(1)} ${from.toFixed(1)}v${(-height).toFixed(1)}h${(width - 1).toFixed(1)}v${height.toFixed(1)}z`;
  }).join("");
}

// line leaves gaps where nothing was measured; a point that is alone is a short stroke.
function line(values, top) {
  const width = 300 / values.length;
  let pen = "M";
  return values.map((v, i) => {
    if (!v) {
      pen = "M";
      return "";
    }
    const alone = pen === "M" && !values[i + 1];
    const at = `${pen}${((i + (alone ? 0.1 : 0.5)) * width).toFixed(1)} ${(98 - 86 * v / top).toFixed(1)}`;
    pen = "L";
    return at + (alone ? `h${(0.8 * width).toFixed(1)}` : "");
  }).join("");
}

// ---- the connection

async function connect() {
  clearTimeout(retry);
  stream?.abort();
  if (paused || document.hidden) return;
  const mine = stream = new AbortController();
  let watchdog = 0;
  const alive = () => {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => mine.abort(), silence);
  };
  try {
    alive();
    const headers = {Accept: "text/event-stream"};
    if (token) headers.Authorization = "Bearer " + token;
    const answer = await fetch(feed, {headers, signal: mine.signal, cache: "no-store", credentials: "omit", redirect: "error"});
    if (!answer.ok) {
      const problem = await answer.text();
      clearTimeout(watchdog);
      if (mine === stream) refused(answer, problem);
      return;
    }
    let first = true;
    await read(answer.body, (name, data) => {
      if (mine !== stream) return;
      alive();
      if (first) {
        first = false;
        wait = 1;
        requests = [];
        say("Live");
        showRequests([]);
      }
      if (name === "frame") showFrame(JSON.parse(data));
      if (name === "requests") showRequests(JSON.parse(data));
    });
  } catch { // the connection was cut, here or there
  }
  clearTimeout(watchdog);
  if (mine === stream && !paused && !document.hidden) again();
}

function hideCosts() {
  const spent = !document.querySelector("thead .cost").hidden;
  for (const td of document.querySelectorAll("tbody .cost")) td.hidden = !spent;
}

// read cuts the stream into its events.
async function read(body, each) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const {done, value} = await reader.read();
    if (done) return;
    text += value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const event = {event: "message", data: ""};
      for (const l of text.slice(0, end).split("\n")) {
        const at = l.indexOf(": ");
        if (at > 0) event[l.slice(0, at)] = l.slice(at + 2);
      }
      each(event.event, event.data);
    }
  }
}

function again() {
  say("No connection. Trying again…");
  retry = setTimeout(connect, 1000 * wait);
  wait = Math.min(2 * wait, 10);
}

function refused(answer, problem) {
  if (answer.status === 401 || answer.status === 403 || answer.status === 429) {
    let detail = "";
    try { detail = JSON.parse(problem).detail; } catch { /* it is no problem document */ }
    const wrong = answer.status === 401 ? (token ? "That is not the token." : "") : detail || "The gateway refuses.";
    token = "";
    $("login-error").textContent = wrong;
    $("shown").hidden = true;
    $("login").hidden = false;
    $("token").value = "";
    $("token").focus();
    say("Not connected");
    return;
  }
  again();
}

function say(text) {
  if ($("connection").textContent === text) return;
  put($("connection"), text);
  announce(text);
}

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  $("token").value = "";
  $("login-error").textContent = "";
  connect().catch(() => {});
});

$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  if (paused) {
    stream?.abort();
    clearTimeout(retry);
    say("Paused");
  } else {
    say("Connecting…");
  }
  connect();
});

// Nobody looks at a page that is hidden, so it does not ask.
document.addEventListener("visibilitychange", connect);

connect();
