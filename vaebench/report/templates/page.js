"use strict";
// Shared by all parts: the data, small helpers, the theme, tooltips, and the dialog with the origin of a number.
const DATA = JSON.parse(document.getElementById("data").textContent);

/** Create an element; strings become text nodes, so that no name is ever parsed as HTML. */
function element(tag, attributes = {}, ...children) {
  const node = tag.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4))
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** Fill a <select> with [value, text] pairs and keep its choice where it is still offered. */
function fill(select, options, preferred) {
  const before = preferred ?? select.value;
  select.replaceChildren(...options.map(([value, text]) => element("option", { value }, text)));
  if (options.some(([value]) => String(value) === String(before))) select.value = before;
}

/** A number with about four significant digits, as in the tables. */
function short(value) {
  const size = Math.abs(value);
  if (size > 0 && size < 1e-3) return value.toExponential(1);
  return value.toFixed(size < 1 ? 4 : size < 10 ? 3 : size < 100 ? 2 : size < 1000 ? 1 : 0);
}

(function theme() {
  const root = document.documentElement, button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  let choice = "auto";
  try { choice = localStorage.getItem("vaebench-theme") ?? "auto"; } catch { /* a file opened without storage */ }
  function apply() {
    root.dataset.theme = choice === "auto" ? (system.matches ? "dark" : "light") : choice;
    button.querySelector("span").textContent = choice;
    button.setAttribute("aria-label", `Colour theme: ${choice === "auto" ? "as the system" : choice}`);
  }
  button.addEventListener("click", () => {
    choice = { auto: system.matches ? "light" : "dark", light: "dark", dark: "light" }[choice];
    try { localStorage.setItem("vaebench-theme", choice); } catch { /* as above */ }
    apply();
  });
  system.addEventListener("change", apply);
  apply();
})();

const tip = {
  node: document.getElementById("tip"),
  show(text, box) {
    this.node.textContent = text;
    this.node.hidden = false;
    const own = this.node.getBoundingClientRect();
    const above = box.top - own.height - 8;
    this.node.style.left = `${Math.max(8, Math.min(box.left + box.width / 2 - own.width / 2, innerWidth - own.width - 8))}px`;
    this.node.style.top = `${above > 8 ? above : box.bottom + 8}px`;
  },
  hide() { this.node.hidden = true; },
};

/** Open the dialog with the origin of a record, and of one of its scores if `key` is given. */
function showOrigin(recordIndex, key) {
  const record = DATA.records[recordIndex];
  const dialog = document.getElementById("origin"), body = dialog.querySelector("[data-body]");
  const close = element("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Close");
  const parts = [element("header", {}, element("h2", { id: "origin-title" }, key ? `${key} of ${record.label}` : record.label), close)];
  if (key) {
    parts.push(...scoreParts(record.scores[key]));
    const published = record.published[record.scores[key].metric];
    if (published) parts.push(facts("Published, not measured here", published));
  }
  parts.push(facts("Record", [["suite", record.suite], ["setting", record.setting], ["file", record.file]]));
  for (const [title, group] of record.groups) if (group.length) parts.push(facts(title, group));
  if (record.failed.length) parts.push(facts("Failed", record.failed.map((f) => [f.case, f.reason])));
  if (record.absent.length) parts.push(facts("Unavailable", record.absent.map((a) => [a.metric, a.reason])));
  parts.push(element("h3", {}, "Measure again"), element("pre", { tabindex: 0 }, record.command));
  body.replaceChildren(...parts);
  dialog.showModal();
  dialog.scrollTop = 0;
  close.focus({ preventScroll: true });
}

function scoreParts(score) {
  const direction = { higher: "higher is better", lower: "lower is better", neither: "no direction" }[score.better];
  const rows = [["n", String(score.n)], ["direction", direction]];
  if (score.value !== null) rows.unshift(["full precision", `${score.value} ${score.unit}`.trim()]);
  if (score.low !== null && score.high !== null) rows.push(["95 % interval", `${score.low} to ${score.high}`]);
  if (score.stderr !== null) rows.push(["standard error", String(score.stderr)]);
  if (score.condition) rows.unshift(["condition", score.condition]);
  const parts = [element("p", { class: "value" }, score.value === null ? score.status : score.shown)];
  if (score.note) parts.push(element("p", { class: "warning" }, score.note));
  return [...parts, facts("Score", rows)];
}

function facts(title, rows) {
  const list = element("dl", {}, ...rows.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
  return element("div", {}, element("h3", {}, title), list);
}

document.getElementById("origin").addEventListener("click", (event) => {
  if (event.target === event.currentTarget) event.currentTarget.close(); // a click on the backdrop
});
document.querySelector("main").addEventListener("click", (event) => {
  const button = event.target.closest("button[data-record]");
  if (button) showOrigin(Number(button.dataset.record), button.dataset.score);
});
