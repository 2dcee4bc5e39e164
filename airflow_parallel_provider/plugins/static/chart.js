// SPDX-License-Identifier: Apache-2.0
// Small charts in SVG: lines, steps and stacked shares, with a cursor for pointer and arrow keys.
import { el, named, seconds as asSeconds, svg } from "./dom.js";

const [WIDTH, HEIGHT] = [320, 140];
const PAD = { left: 52, right: 8, top: 8, bottom: 20 };

/**
 * 1, 2, 4 or 6 times a power of ten, not below `value`: half of it is also a round number. `base` 1024 for bytes: times a
 * power of 1024, too, so that 200 MiB is round and not 191.
 */
export function nice(value, base = 1) {
  if (!(value > 0)) return 1;
  const unit = base > 1 ? base ** Math.floor(Math.log(value) / Math.log(base)) : 1;
  const power = unit * 10 ** Math.floor(Math.log10(value / unit));
  return [1, 2, 4, 6, 10].map((step) => step * power).find((each) => each >= value * 0.999);
}

/** The texts of three ticks; of two that rounding makes the same, only one is shown. */
export function ticks(top, format) {
  const texts = [0, top / 2, top].map(format);
  return texts.map((text, at) => (at === 1 && (text === texts[0] || text === texts[2]) ? "" : at === 0 && text === texts[2] ? "" : text));
}

const scaled = (x0, x1) => (x) => PAD.left + ((x - x0) / Math.max(1e-9, x1 - x0)) * (WIDTH - PAD.left - PAD.right);
const heights = (top) => (y) => HEIGHT - PAD.bottom - (Math.min(y, top) / top) * (HEIGHT - PAD.top - PAD.bottom);

function path(xs, values, X, Y, step) {
  let drawn = "";
  let before = null;
  values.forEach((value, at) => {
    if (value === null || value === undefined) {
      before = null;
      return;
    }
    const [x, y] = [X(xs[at]).toFixed(1), Y(value).toFixed(1)];
    const alone = before === null && (values[at + 1] === null || values[at + 1] === undefined);
    drawn += alone ? `M${x},${y}h0` : before === null ? `M${x},${y}` : step ? `H${x}V${y}` : `L${x},${y}`;
    before = value;
  });
  return drawn;
}

function area(xs, low, high, X, Y) {
  const forth = xs.map((x, at) => `${X(x).toFixed(1)},${Y(high[at]).toFixed(1)}`);
  const back = xs.map((x, at) => `${X(x).toFixed(1)},${Y(low[at]).toFixed(1)}`).reverse();
  return xs.length ? `M${[...forth, ...back].join("L")}Z` : "";
}

function grid(X, Y, x0, x1, top, format) {
  const parts = [0, 0.5, 1];
  const texts = ticks(top, format);
  const lines = parts.map((part, at) => [
    svg("line", { class: "pp-grid", x1: PAD.left, x2: WIDTH - PAD.right, y1: Y(top * part), y2: Y(top * part) }),
    texts[at] ? svg("text", { class: "pp-axis", x: PAD.left - 6, y: Y(top * part) + 3.5, "text-anchor": "end" }, texts[at]) : null,
  ]);
  const ends = [
    svg("text", { class: "pp-axis", x: PAD.left, y: HEIGHT - 6 }, asSeconds(x0)),
    svg("text", { class: "pp-axis", x: WIDTH - PAD.right, y: HEIGHT - 6, "text-anchor": "end" }, asSeconds(x1)),
  ];
  return svg("g", { "aria-hidden": "true" }, lines, ends);
}

const lastOf = (values) => values.findLast((value) => value !== null && value !== undefined);

/**
 * One chart: `xs` seconds, `lines` of `{ name, values, color, dash }`.
 *
 * stacked: the lines are shares that are stacked up to `top`; step: a value holds until the next one;
 * marks: `{ at, text }`, moments to mark.
 */
export function chart({ key, title, xs, lines, format, axis = format, base = 1, top, step = false, stacked = false, marks = [], note = "" }) {
  const values = lines.flatMap((line) => line.values).filter((value) => value !== null);
  const [x0, x1] = [Math.min(0, xs[0] ?? 0), xs[xs.length - 1] ?? 1];
  const height = top ?? nice(Math.max(0, ...values), base);
  const [X, Y] = [scaled(x0, x1), heights(height)];
  const last = lines.map((line) => `${line.name}: ${format(lastOf(line.values))}`).join(", ");
  const image = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    role: "img",
    tabindex: "0",
    "data-key": key,
    "aria-label": `${title}. Last value ${last}. Highest ${format(Math.max(0, ...values))}. Arrow keys read it point by point.`,
  });
  image.append(grid(X, Y, x0, x1, height, axis));
  let below = xs.map(() => 0);
  for (const line of lines) {
    if (stacked) {
      const above = below.map((value, at) => value + (line.values[at] ?? 0));
      image.append(svg("path", { class: "pp-area", fill: line.color, d: area(xs, below, above, X, Y) }));
      below = above;
    } else {
      image.append(svg("path", { class: "pp-line", stroke: line.color, "stroke-dasharray": line.dash, d: path(xs, line.values, X, Y, step) }));
    }
  }
  for (const mark of marks) {
    image.append(svg("path", { class: "pp-mark", d: `M${X(mark.at).toFixed(1)},${PAD.top}V${HEIGHT - PAD.bottom}` }, svg("title", {}, mark.text)));
  }
  const readout = el("p", { class: "pp-readout", role: "status" });
  cursor(image, readout, { xs, lines, X, x0, x1, format });
  const legend = el("ul", { class: "pp-legend" }, lines.map((line) => {
    const swatch = el("i", { class: line.dash ? "pp-dashed" : null });
    swatch.style.color = line.color;
    return el("li", {}, swatch, named(line.name));
  }));
  return el("figure", { class: "pp-chart" }, el("figcaption", {}, named(title, 40), note ? el("span", { class: "pp-note" }, note) : null), image, readout, legend);
}

function cursor(image, readout, { xs, lines, X, x0, x1, format }) {
  const hair = svg("line", { class: "pp-hair", y1: PAD.top, y2: HEIGHT - PAD.bottom, visibility: "hidden" });
  image.append(hair);
  let at = xs.length - 1;
  function show() {
    for (const name of ["x1", "x2"]) hair.setAttribute(name, X(xs[at]));
    hair.setAttribute("visibility", "visible");
    readout.textContent = `${asSeconds(xs[at])}  ·  ${lines.map((line) => `${line.name} ${format(line.values[at])}`).join("  ·  ")}`;
  }
  function hide() {
    hair.setAttribute("visibility", "hidden");
    readout.textContent = "";
  }
  image.addEventListener("pointermove", (event) => {
    if (!xs.length) return;
    const box = image.getBoundingClientRect();
    const share = (((event.clientX - box.left) / box.width) * WIDTH - PAD.left) / (WIDTH - PAD.left - PAD.right);
    const wanted = x0 + share * (x1 - x0);
    at = xs.reduce((best, x, index) => (Math.abs(x - wanted) < Math.abs(xs[best] - wanted) ? index : best), 0);
    show();
  });
  image.addEventListener("pointerleave", hide);
  image.addEventListener("blur", hide);
  image.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (!move || !xs.length) return;
    event.preventDefault();
    at = Math.max(0, Math.min(xs.length - 1, at + move));
    show();
  });
}

/** One vertical bar per run; `runs` of `{ label, value, current, href }`. */
export function bars({ title, runs, format, note }) {
  const top = Math.max(1e-9, ...runs.map((each) => each.value ?? 0));
  const list = runs.map((each) => {
    const bar = el("span", { class: "pp-bar" });
    bar.style.height = `${Math.max(2, ((each.value ?? 0) / top) * 100)}%`;
    const text = `${each.label}: ${format(each.value)}`;
    const inner = each.href ? el("a", { href: each.href, title: text, "aria-label": text }, bar) : el("span", { title: text, "aria-label": text, role: "img" }, bar);
    return el("li", { class: each.current ? "pp-current" : null }, inner);
  });
  return el("figure", { class: "pp-trend" }, el("figcaption", {}, title, el("span", { class: "pp-note" }, note)), el("ol", {}, list));
}
