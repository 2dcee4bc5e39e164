// SPDX-License-Identifier: Apache-2.0
// The stages in a row with the channel in front of each, as an ordered list.
import { count, cutMiddle, el, milliseconds, named, percent, rate, short } from "./dom.js";

export const COLORS = ["#2f7de1", "#e8890c", "#1f9d6b", "#9b5de5", "#d6336c", "#0c9aa8", "#a98307", "#6b7a90"];
export const colorOf = (at) => COLORS[at % COLORS.length];

const BACK_PRESSURE = 0.5; // share of the time in which workers wait for room, from which on it is marked

/** `queue` of `{ now, size, peak, final }`: after the end how full it was at most, since then it is empty. */
function channel({ now, size, peak, final }, what, name, pressed) {
  const level = el("i", {});
  const most = final && peak ? peak : now;
  const share = size ? Math.min(1, most / size) : 0;
  level.style.height = `${share * 100}%`;
  const shown = size ? `${final && peak ? "peak " : ""}${count(most)} / ${count(size)}` : "";
  const class_ = `pp-channel${share > 0.8 && !final ? " pp-full" : ""}${pressed ? " pp-pressed" : ""}`;
  const tube = size ? el("span", { class: "pp-tube", "aria-hidden": "true" }, level) : null;
  if (!tube) return el("div", { class: class_ });
  return el(
    "div",
    { class: class_, role: "meter", "aria-valuemin": "0", "aria-valuemax": size, "aria-valuenow": now, "aria-label": `${what}: ${shown}`, title: pressed ? "Back-pressure: the stage before waits for room here" : null },
    tube,
    el("span", { class: "pp-channel-text", "data-figure": `queue:${name}`, "data-value": now }, shown),
  );
}

function shares(parts) {
  const bar = el("span", { class: "pp-shares", "aria-hidden": "true" }, parts.map(([kind, share]) => {
    const piece = el("i", { class: `pp-${kind}` });
    piece.style.width = `${Math.min(1, share || 0) * 100}%`;
    return piece;
  }));
  const text = parts.map(([kind, share]) => `${kind} ${percent(share)}`).join(" · ");
  return [bar, el("span", { class: "pp-note" }, text)];
}

const MARKS = { bottleneck: ["pp-chip-warn", "pp-bottleneck"], "failed here": ["pp-chip-bad", "pp-broken"] };
const frameOf = (mark) => (mark ? ` ${MARKS[mark][1]}` : "");
const chip = (mark) => (mark ? el("span", { class: `pp-chip ${MARKS[mark][0]}` }, mark) : null);
const markOf = (snapshot, name) => (snapshot.failed_at === name ? "failed here" : snapshot.bottleneck === name ? "bottleneck" : null);

const pressed = (stage) => stage !== undefined && (stage.blocked_fraction ?? 0) >= BACK_PRESSURE;

function stageCard(stage, at, curve, mark, live) {
  const dot = el("i", { class: "pp-dot", "aria-hidden": "true" });
  dot.style.background = colorOf(at);
  const workers = stage.workers_now || stage.workers;
  const speed = curve?.out.length ? curve.out[curve.out.length - 1] : null;
  const kinds = [["busy", stage.busy_fraction], ["starved", stage.starved_fraction], ["blocked", stage.blocked_fraction]];
  const between = 1 - kinds.reduce((sum, [, share]) => sum + (share ?? 0), 0);
  if (stage.kind === "inline") kinds.splice(1);
  else if (between >= 0.1 && workers) kinds.push(["between calls", between]);
  const trouble = [
    [stage.failed, "failed"],
    [stage.retried, "retried"],
    [stage.halved, "calls with halves of batches"],
    [stage.timed_out, "timed out"],
    [stage.workers_lost, stage.workers_lost === 1 ? "worker lost" : "workers lost"],
  ].filter(([number]) => number > 0);
  return el(
    "div",
    { class: `pp-stage${frameOf(mark)}${pressed(stage) ? " pp-waits" : ""}`, "data-stage": stage.name },
    el("div", { class: "pp-stage-head" }, el("span", {}, dot, el("strong", {}, named(stage.name))), chip(mark), pressed(stage) ? el("span", { class: "pp-chip pp-chip-blocked", title: "Its workers wait for room behind them" }, `blocked ${percent(stage.blocked_fraction)}`) : null),
    el("div", {}, stage.kind === "inline" ? "inline" : `${count(workers)} ${stage.kind} worker${workers === 1 ? "" : "s"}`),
    shares(kinds),
    el("div", {}, el("b", { "data-figure": `items_out:${stage.name}`, "data-value": stage.items_out }, count(stage.items_out)), " out", stage.rows_out ? ` (${count(stage.rows_out)} rows)` : "", speed && live ? ` · ${rate(speed)}` : ""),
    stage.p50_ms === null || stage.p50_ms === undefined
      ? null
      : el("div", { class: "pp-note" }, `p50 ${milliseconds(stage.p50_ms)} · p95 ${milliseconds(stage.p95_ms)} · p99 ${milliseconds(stage.p99_ms)}`),
    trouble.length ? el("div", { class: "pp-trouble" }, trouble.map(([number, what]) => `${count(number)} ${what}`).join(" · ")) : null,
  );
}

function end(name, title, lines, busy, mark) {
  return el(
    "div",
    { class: `pp-stage pp-end${frameOf(mark)}`, "data-stage": name },
    el("div", { class: "pp-stage-head" }, el("strong", {}, title), chip(mark)),
    ...[lines].flat(),
    busy === null ? null : shares([["busy", busy]]),
  );
}

/** Marks where a row ends and the next begins, whatever the width, so that all read as one line. */
function markRows(list) {
  const steps = [...list.children];
  list.classList.toggle("pp-wrapped", steps.at(-1).offsetTop > steps[0].offsetTop);
  steps.forEach((step, at) => {
    step.classList.toggle("pp-turn", at + 1 < steps.length && steps[at + 1].offsetTop > step.offsetTop);
    step.classList.toggle("pp-row", at > 0 && step.offsetTop > steps[at - 1].offsetTop);
  });
}

let observer = null;

function keepRowsMarked(list) {
  observer ??= new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.isConnected) markRows(target);
      else observer.unobserve(target);
    }
  });
  observer.observe(list);
}

/** What a source has counted, such as the retries of an HTTP API: `retries 3 (429: 2, 503: 1)`. */
function countedBy(source) {
  const parts = Object.entries(source ?? {}).filter(([, value]) => value !== 0 && value !== null);
  const text = (value) => (typeof value === "number" ? short(value) : typeof value === "object" ? Object.entries(value).map(([key, each]) => `${key}: ${short(each)}`).join(", ") : String(value));
  const shown = parts.map(([name, value]) => [name.replaceAll("_", " "), text(value)]).filter(([, value]) => value);
  return shown.length ? el("div", { class: "pp-note", "data-figure": "source" }, shown.map(([name, value]) => `${name} ${value}`).join(" · ")) : null;
}

export function flow(snapshot, curves) {
  const stages = snapshot.stages ?? [];
  const final = Boolean(snapshot.final);
  const source = [el("div", {}, el("b", {}, count(snapshot.items_read)), " read"), countedBy(snapshot.source)];
  const steps = [el("li", {}, end("source", "Source", source, snapshot.source_busy_fraction ?? null, markOf(snapshot, "source")))];
  stages.forEach((stage, at) => {
    const curve = curves.stages.find((each) => each.name === stage.name);
    const queue = { now: stage.queue_now ?? 0, size: stage.queue_size, peak: stage.queue_peak, final };
    steps.push(el("li", {}, channel(queue, `waiting in front of ${stage.name}`, stage.name, pressed(stages[at - 1])), stageCard(stage, at, curve, markOf(snapshot, stage.name), !final)));
  });
  const flying = { now: final ? 0 : snapshot.items_unfinished ?? 0, size: snapshot.max_in_flight, peak: 0, final };
  const rows = el("div", {}, el("b", {}, count(snapshot.rows_committed)), " rows");
  const place = snapshot.sink ?? "no sink";
  steps.push(el("li", {}, channel(flying, "read and not yet committed", "in flight", pressed(stages.at(-1))), end("sink", "Sink", [rows, el("div", { class: "pp-note", title: place }, cutMiddle(place, 60))], snapshot.sink_busy_fraction ?? null, markOf(snapshot, "sink"))));
  const list = el("ol", { class: "pp-flow", "aria-label": "The stages, with the channel in front of each" }, steps);
  keepRowsMarked(list);
  return list;
}
