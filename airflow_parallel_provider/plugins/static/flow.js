// SPDX-License-Identifier: Apache-2.0
// The stages in a row with the channel in front of each, as an ordered list.
import { count, el, milliseconds, percent, rate } from "./dom.js";

export const COLORS = ["#2f7de1", "#e8890c", "#1f9d6b", "#9b5de5", "#d6336c", "#0c9aa8", "#a98307", "#6b7a90"];
export const colorOf = (at) => COLORS[at % COLORS.length];

function channel(now, size, what, name) {
  const share = size ? Math.min(1, now / size) : 0;
  const level = el("i", {});
  level.style.height = `${share * 100}%`;
  const shown = size ? `${count(now)} / ${count(size)}` : "–";
  const class_ = `pp-channel${share > 0.8 ? " pp-full" : ""}`;
  return el(
    "div",
    { class: class_, role: "meter", "aria-valuemin": "0", "aria-valuemax": size || 1, "aria-valuenow": now, "aria-label": `${what}: ${shown}` },
    el("span", { class: "pp-tube", "aria-hidden": "true" }, level),
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

const MARKS = { bottleneck: "pp-chip-warn", "failed here": "pp-chip-bad" };
const chip = (mark) => (mark ? el("span", { class: `pp-chip ${MARKS[mark]}` }, mark) : null);
const markOf = (snapshot, name) => (snapshot.failed_at === name ? "failed here" : snapshot.bottleneck === name ? "bottleneck" : null);

function stageCard(stage, at, curve, mark, live) {
  const dot = el("i", { class: "pp-dot", "aria-hidden": "true" });
  dot.style.background = colorOf(at);
  const workers = stage.workers_now || stage.workers;
  const speed = curve?.out.length ? curve.out[curve.out.length - 1] : null;
  const trouble = [
    [stage.failed, "failed"],
    [stage.retried, "retried"],
    [stage.halved, "calls with halves of batches"],
    [stage.timed_out, "timed out"],
    [stage.workers_lost, stage.workers_lost === 1 ? "worker lost" : "workers lost"],
  ].filter(([number]) => number > 0);
  return el(
    "div",
    { class: `pp-stage${mark ? " pp-bottleneck" : ""}`, "data-stage": stage.name },
    el("div", { class: "pp-stage-head" }, el("span", {}, dot, el("strong", {}, stage.name)), chip(mark)),
    el("div", {}, stage.kind === "inline" ? "inline" : `${count(workers)} ${stage.kind} worker${workers === 1 ? "" : "s"}`),
    shares([["busy", stage.busy_fraction], ["starved", stage.starved_fraction], ["blocked", stage.blocked_fraction]]),
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
    { class: `pp-stage pp-end${mark ? " pp-bottleneck" : ""}`, "data-stage": name },
    el("div", { class: "pp-stage-head" }, el("strong", {}, title), chip(mark)),
    lines,
    busy === null ? null : shares([["busy", busy]]),
  );
}

export function flow(snapshot, curves) {
  const stages = snapshot.stages ?? [];
  const steps = [el("li", {}, end("source", "Source", el("div", {}, el("b", {}, count(snapshot.items_read)), " read"), snapshot.source_busy_fraction ?? null, markOf(snapshot, "source")))];
  stages.forEach((stage, at) => {
    const curve = curves.stages.find((each) => each.name === stage.name);
    steps.push(el("li", {}, channel(stage.queue_now ?? 0, stage.queue_size, `waiting in front of ${stage.name}`, stage.name), stageCard(stage, at, curve, markOf(snapshot, stage.name), !snapshot.final)));
  });
  const flying = snapshot.final ? 0 : snapshot.items_unfinished ?? 0;
  const rows = el("div", {}, el("b", {}, count(snapshot.rows_committed)), " rows");
  steps.push(el("li", {}, channel(flying, snapshot.max_in_flight, "read and not yet committed", "in flight"), end("sink", "Sink", [rows, el("div", { class: "pp-note" }, snapshot.sink ?? "no sink")], snapshot.sink_busy_fraction ?? null, markOf(snapshot, "sink"))));
  return el("ol", { class: "pp-flow", "aria-label": "The stages, with the channel in front of each" }, steps);
}
