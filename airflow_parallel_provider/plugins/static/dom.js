// SPDX-License-Identifier: Apache-2.0
// Elements and numbers. All data of a pipeline is inserted as text, never as markup.
const SVG = "http://www.w3.org/2000/svg";

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const el = (tag, attributes = {}, ...children) => build(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) => build(document.createElementNS(SVG, tag), attributes, children);

/** Replace the content of `box`, and keep the user's state: open details, the focus, scroll positions of tables. */
export function swap(box, ...children) {
  const opened = new Map([...box.querySelectorAll("details[data-key]")].map((each) => [each.dataset.key, each.open]));
  const scrolled = new Map([...box.querySelectorAll("[data-scroll]")].map((each) => [each.dataset.scroll, each.scrollLeft]));
  const focused = box.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  box.replaceChildren(...children.flat().filter(Boolean));
  for (const each of box.querySelectorAll("details[data-key]")) {
    if (opened.has(each.dataset.key)) each.open = opened.get(each.dataset.key);
  }
  for (const each of box.querySelectorAll("[data-scroll]")) each.scrollLeft = scrolled.get(each.dataset.scroll) ?? 0;
  if (focused) box.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

// Numbers as the texts of log, report and command line have them (formats.py); a test compares both.
const whole = new Intl.NumberFormat("en");
const known = (value) => typeof value === "number" && Number.isFinite(value);
const round = (value) => Math.floor(value + 0.5);

export const count = (value) => (known(value) ? whole.format(round(value)) : "–");
/** For the axis of a chart, where space is short. */
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
export const brief = (value) => (known(value) ? compact.format(value) : "–");

export function short(value) {
  if (!known(value)) return "–";
  if (Math.abs(value) >= 100) return count(value);
  if (value > 0 && value < 0.0005) return "<0.001";
  return String(Number(value.toFixed(Math.abs(value) >= 1 ? 1 : 3)));
}

export const percent = (share) => (known(share) ? `${round(share * 100)}%` : "–");
/** How much is done, rounded down: 100% is said only when nothing is left. */
export const percentDone = (done, total) => (total > 0 ? `${Math.floor((Math.min(done, total) * 100) / total)}%` : "100%");
export const rate = (value) => (known(value) ? `${short(value)}/s` : "–");

export function bytes(value) {
  if (!known(value)) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) [value, at] = [value / 1024, at + 1];
  return `${value >= 100 || at === 0 ? round(value) : value.toFixed(1)} ${units[at]}`;
}

export function milliseconds(value) {
  if (!known(value)) return "–";
  if (value >= 1000) return seconds(value / 1000);
  if (value >= 10) return `${round(value)} ms`;
  if (value >= 1) return `${value.toFixed(1)} ms`;
  return value > 0 ? `${Math.max(1, round(value * 1000))} µs` : "0 ms";
}

/** `estimate`: without fractions of a second. */
export function seconds(value, estimate = false) {
  if (!known(value)) return "–";
  if (value === 0) return "0 s";
  if (value > 0 && value < 0.01 && !estimate) return milliseconds(value * 1000);
  if (value < 120) return `${value.toFixed(estimate ? 0 : value < 10 ? 2 : 1)} s`;
  const rounded = round(value);
  const padded = (number) => String(number).padStart(2, "0");
  if (rounded < 7200) return `${Math.floor(rounded / 60)} min ${padded(rounded % 60)} s`;
  return `${whole.format(Math.floor(rounded / 3600))} h ${padded(Math.floor((rounded % 3600) / 60))} min`;
}

/** A name of at most `most` characters, without its middle: both ends tell names apart. */
export function cutMiddle(text, most) {
  const letters = Array.from(text);
  if (letters.length <= most) return text;
  const kept = most - 1;
  return `${letters.slice(0, Math.ceil(kept / 2)).join("").trimEnd()}…${letters.slice(letters.length - Math.floor(kept / 2)).join("").trimStart()}`;
}

/** A name that is cut, with the whole of it in a tooltip. */
export const named = (text, most = 24) => el("span", { title: cutMiddle(text, most) === text ? null : text }, cutMiddle(text, most));

/** A moment as Airflow's own pages show it: in the time zone that the user has chosen there. */
export function moment(value) {
  const date = new Date(value);
  if (!Number.isFinite(date.getTime())) return "–";
  let timeZone;
  try {
    timeZone = JSON.parse(localStorage.getItem("timezone")) ?? undefined;
  } catch {
    // None is chosen: that of the browser.
  }
  const format = (zone) => new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium", timeZone: zone }).format(date);
  try {
    return format(timeZone);
  } catch {
    return format(undefined);
  }
}

/** A list of metrics: `[label, text, name, value, note]` each. `data-value` has the raw value, for tests and scripts. */
export const figures = (list) =>
  el(
    "dl",
    { class: "pp-figures" },
    list.map(([label, shown, name, value, note]) =>
      el(
        "div",
        { class: "pp-figure" },
        el("dt", {}, label),
        el("dd", { "data-figure": name, "data-value": value ?? "" }, shown),
        note ? el("dd", { class: "pp-note" }, note) : null,
      ),
    ),
  );

export const table = (key, heads, rows, caption) =>
  el(
    "div",
    { class: "pp-scroll", "data-scroll": key, tabindex: "0", role: "region", "aria-label": caption },
    el(
      "table",
      {},
      el("caption", { class: "pp-hidden" }, caption),
      el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col", class: head.number ? "pp-number" : null }, head.text ?? head)))),
      el("tbody", {}, rows.map((cells) => el("tr", {}, cells.map((cell, at) => el("td", { class: heads[at].number ? "pp-number" : null }, cell ?? "–"))))),
    ),
  );

export const section = (title, note, ...content) =>
  el("section", { "aria-label": title }, el("h3", {}, title, note ? el("span", { class: "pp-note" }, note) : null), content);
