// SPDX-License-Identifier: Apache-2.0
// The sections of the page of one try, each made from a snapshot.
import { chart } from "./chart.js";
import { brief, bytes, count, el, figures, milliseconds, percent, percentDone, rate, seconds, section, short, table } from "./dom.js";
import { colorOf } from "./flow.js";
import { itemsDone, itemsTotal } from "./series.js";

const CAUSES = 10; // shown at once; the others open on request
const [GOOD, WAIT, STOP] = ["var(--pp-busy)", "var(--pp-starved)", "var(--pp-blocked)"];

export function progress(snapshot, live) {
  const [done, total] = [itemsDone(snapshot), itemsTotal(snapshot)];
  const whole = Math.max(total ?? 0, snapshot.items_read ?? 0, 1);
  const parts = [
    ["committed", snapshot.items_committed],
    ["skipped", snapshot.items_skipped],
    ["filtered", snapshot.items_filtered],
    ["dead", snapshot.items_dead_lettered, snapshot.rows_rejected ? `and ${count(snapshot.rows_rejected)} rows rejected` : null],
    ["flying", snapshot.items_unfinished],
  ].filter(([, number]) => number > 0);
  const names = { committed: "committed", skipped: "already committed", filtered: "filtered", dead: "failed", flying: live ? "in flight" : "unfinished" };
  const text = total ? `${count(done)} of ${count(total)} items` : `${count(done)} items`;
  const pieces = parts.map(([kind, number]) => {
    const piece = el("i", { class: `pp-${kind}` });
    piece.style.width = `${(number / whole) * 100}%`;
    return piece;
  });
  const bar = el(
    "div",
    { class: "pp-progress", role: "progressbar", "aria-label": "Items that are done", "aria-valuetext": text, "aria-valuemin": "0", "aria-valuemax": whole, "aria-valuenow": done },
    pieces,
  );
  const left = live && typeof snapshot.seconds_left === "number" ? `about ${seconds(snapshot.seconds_left, true)} left` : null;
  const line = [
    el("strong", { "data-figure": "items_done", "data-value": done }, text),
    total ? percentDone(done, total) : null,
    live ? rate(snapshot.recent_items_per_second) : `${rate(snapshot.items_per_second)} on average`,
    left ? el("span", { "data-figure": "seconds_left", "data-value": snapshot.seconds_left }, left) : null,
  ].filter(Boolean);
  const legend = el("ul", { class: "pp-legend" }, parts.map(([kind, number]) => el("li", {}, el("i", { class: `pp-${kind} pp-solid` }), `${count(number)} ${names[kind]}`)));
  return el("div", { class: "pp-box" }, el("p", { class: "pp-line" }, line.flatMap((each, at) => (at ? [" · ", each] : [each]))), bar, legend);
}

export function numbers(snapshot) {
  const cores = snapshot.seconds > 0 ? snapshot.cpu_seconds / snapshot.seconds : 0;
  const skipped = snapshot.chunks_skipped ? `${count(snapshot.chunks_skipped)} skipped: already committed` : null;
  return figures([
    ["Rows committed", count(snapshot.rows_committed), "rows_committed", snapshot.rows_committed],
    ["Chunks committed", count(snapshot.chunks_committed), "chunks_committed", snapshot.chunks_committed, skipped],
    ["Items read", count(snapshot.items_read), "items_read", snapshot.items_read],
    ["Dead letters", count(snapshot.items_dead_lettered), "items_dead_lettered", snapshot.items_dead_lettered, snapshot.rows_rejected ? `and ${count(snapshot.rows_rejected)} rows rejected` : null],
    ["Items per second", short(snapshot.items_per_second), "items_per_second", snapshot.items_per_second],
    ["Time", seconds(snapshot.seconds), "seconds", snapshot.seconds, snapshot.shards > 1 || snapshot.part === "finish" ? "from the first start to the last end" : snapshot.speedup ? `${short(snapshot.speedup)} times faster than one worker` : null],
    ["CPU time", seconds(snapshot.cpu_seconds), "cpu_seconds", snapshot.cpu_seconds, snapshot.shards > 1 || snapshot.part === "finish" ? null : `${short(Math.round(cores * 100) / 100)} cores on average`],
    ["Memory", bytes(snapshot.peak_rss_bytes), "peak_rss_bytes", snapshot.peak_rss_bytes, snapshot.shards > 1 || snapshot.shards?.length || snapshot.part === "finish" ? "peaks of all shards added up" : "at its peak, all processes"],
  ]);
}

const SHARD_ORDER = { failed: 0, running: 1, submitted: 2, waiting: 3, success: 4 };

/** The shards of a load that an executor does. */
export function shards(snapshot) {
  const found = Array.isArray(snapshot.shards) ? snapshot.shards : [];
  if (!found.length) return null;
  const left = snapshot.omitted?.shards ?? 0;
  const states = [...Map.groupBy(found, (each) => each.state)].map(([state, list]) => `${count(list.length)} ${state}`);
  const sorted = found.toSorted((one, other) => SHARD_ORDER[one.state] - SHARD_ORDER[other.state] || one.shard - other.shard);
  const rows = sorted.map((each) => [
    String(each.shard), el("span", { class: "pp-state", "data-state": each.state }, each.state), each.host || "–", count(each.chunks), count(each.rows), count(each.tries), each.seconds === null ? "–" : seconds(each.seconds), each.error || "",
  ]);
  const heads = ["Shard", "State", "Host", "Chunks", "Rows", "Tries", "Time", "Error"];
  return el("section", { class: "pp-shards" }, el("h3", {}, `Shards: ${states.join(", ")}${left ? `, ${count(left)} more` : ""}`), table("shards", heads, rows, "Shards of this load"));
}

export function advice(snapshot) {
  if (!snapshot.advice) return null;
  return el("div", { class: "pp-box pp-advice", "data-figure": "advice", "data-value": snapshot.advice }, el("strong", {}, "Advice"), el("p", {}, snapshot.advice));
}

export function problems(snapshot) {
  const lines = [...(snapshot.error ? [["error", snapshot.error]] : []), ...(snapshot.warnings ?? []).map((text) => ["warning", text])];
  if (!lines.length) return null;
  return el("div", { class: "pp-box pp-problems" }, lines.map(([kind, text]) => el("p", { class: `pp-${kind}` }, el("strong", {}, kind === "error" ? "Ended early" : "Warning"), ` ${text}`)));
}

const perStage = (curves, values) => curves.stages.map((stage, at) => ({ name: stage.name, values: values(stage), color: colorOf(at) }));

export function overTime(snapshot, curves) {
  if (snapshot.part === "finish") return null; // the shards have the curves
  if (!curves.enough) return section("Over time", null, el("p", { class: "pp-note" }, snapshot.omitted?.history ? "The curves do not fit into this page." : snapshot.final ? "The run was too short for curves." : "Curves appear after a few seconds."));
  const between = { xs: curves.between };
  const marks = (snapshot.decisions ?? []).map((each) => ({ at: each.at, text: `${each.stage}: ${each.before} → ${each.after}, ${each.reason}` }));
  const whole = (value) => count(value);
  return section(
    "Over time",
    null,
    el(
      "div",
      { class: "pp-charts" },
      chart({ key: "rate", title: "Throughput", note: curves.stages.length ? "items per second out of each stage" : "rows per second", ...between, lines: [...perStage(curves, (stage) => stage.out), { name: "rows committed", values: curves.rows, color: "var(--pp-ink)", dash: "4 3" }], format: rate, axis: (value) => `${brief(value)}/s` }),
      curves.stages.length > 0 && chart({ key: "queue", title: "Queue depth", note: "items waiting in front of each stage", xs: curves.at, lines: perStage(curves, (stage) => stage.queue), format: whole, axis: brief }),
      curves.stages.length > 0 && chart({ key: "workers", title: "Workers", note: marks.length ? `${count(marks.length)} changes` : "", xs: curves.at, step: true, marks, lines: perStage(curves, (stage) => stage.workers), format: whole }),
      chart({ key: "items", title: "Progress", note: "items of the source", xs: curves.at, lines: [{ name: "read", values: curves.read, color: colorOf(0) }, { name: "done", values: curves.done, color: "var(--pp-busy)" }, { name: "failed", values: curves.failed, color: "var(--pp-bad)" }], format: whole, axis: brief }),
      chart({ key: "cpu", title: "CPU", note: "cores in use, all processes", ...between, lines: [{ name: "cores", values: curves.cpus, color: colorOf(0) }], format: short }),
      chart({ key: "memory", title: "Memory", note: "resident, all processes", xs: curves.at, lines: [{ name: "memory", values: curves.memory, color: colorOf(3) }], format: bytes, base: 1024 }),
    ),
  );
}

const MANY_STAGES = 6; // more of them do not fit beside the rest of the page: then their charts open on request

/** A section of charts, one for each stage that has something to show. */
function perStageSection(key, title, note, charts) {
  if (!charts.length) return null;
  const grid = el("div", { class: "pp-charts" }, charts);
  if (charts.length <= MANY_STAGES) return section(title, note, grid);
  const head = el("summary", { "data-key": `${key}-summary` }, `${title}, ${count(charts.length)} stages`);
  return el("details", { class: "pp-more", "data-key": key }, head, el("p", { class: "pp-note" }, note), grid);
}

export function perStageOverTime(snapshot, curves) {
  if (!curves.enough || !curves.stages.length) return null;
  const inline = new Set((snapshot.stages ?? []).filter((stage) => stage.kind === "inline").map((stage) => stage.name));
  const shown = (values) => values.some((value) => value !== null && value !== undefined);
  const time = curves.stages.filter((stage) => !inline.has(stage.name) && stage.busy.length > 1).map((stage) => chart({
    key: `time:${stage.name}`, title: stage.name, note: "what its workers do", xs: curves.working, top: 1, stacked: true, format: percent,
    lines: [{ name: "busy", values: stage.busy, color: GOOD }, { name: "starved", values: stage.starved, color: WAIT }, { name: "blocked", values: stage.blocked, color: STOP }],
  }));
  const latency = curves.stages.filter((stage) => shown(stage.p50)).map((stage) => {
    const color = colorOf(curves.stages.indexOf(stage));
    return chart({
      key: `latency:${stage.name}`, title: stage.name, note: "duration of one call", xs: curves.at, format: milliseconds,
      lines: [{ name: "p50", values: stage.p50, color }, { name: "p95", values: stage.p95, color, dash: "6 3" }, { name: "p99", values: stage.p99, color, dash: "2 3" }],
    });
  });
  return [
    perStageSection("times", "Where the workers' time goes", "starved: waits for items; blocked: waits for the next channel; blank: between calls (passing items on, waiting for Python's interpreter), or not reported yet", time),
    perStageSection("latencies", "Latency", "durations of the calls that ended in each interval", latency),
  ];
}

const items = (many) => `${count(many)} ${many === 1 ? "item" : "items"}`;
const number = (text) => ({ text, number: true });

export function decisions(snapshot) {
  const list = snapshot.decisions ?? [];
  if (!list.length) return null;
  const rows = list.toReversed().map((each) => [seconds(each.at), each.stage, `${each.before} → ${each.after}`, each.reason]);
  return section("Why the number of workers changed", null, table("decisions", [number("At"), "Stage", "Workers", "Reason"], rows, "Changes of the number of workers, the last one first"));
}

export function failures(snapshot, links) {
  const list = snapshot.failures ?? [];
  if (!list.length) return null;
  const row = (each) => {
    const sample = each.sample ?? {};
    const item = [sample.position !== undefined && sample.position !== null ? `#${count(sample.position)}` : null, sample.item ? el("code", {}, sample.item) : null];
    return [el("span", { "data-figure": `failures:${each.cause}`, "data-value": each.count }, count(each.count)), each.stage, el("span", { class: "pp-cause" }, each.cause), el("span", { class: "pp-sample" }, item.filter(Boolean).flatMap((part, at) => (at ? [" ", part] : [part])))];
  };
  const heads = [number("Items"), "Stage", "Cause", "For example"];
  const [first, others] = [list.slice(0, CAUSES), list.slice(CAUSES)];
  const sum = (causes) => causes.reduce((all, each) => all + each.count, 0);
  const left = snapshot.omitted?.failures ? { causes: snapshot.omitted.failures, items: snapshot.omitted.failed_items ?? 0 } : null;
  return section(
    "Failures by cause",
    items(sum(list) + (left?.items ?? 0)),
    table("failures", heads, first.map(row), "Causes of failures, most frequent first"),
    others.length ? el("details", { class: "pp-more", "data-key": "causes" }, el("summary", { "data-key": "causes-summary" }, `${count(others.length)} more causes, ${count(sum(others))} items`), table("more-failures", heads, others.map(row), "The other causes of failures")) : null,
    left ? el("p", { class: "pp-note", "data-figure": "causes_left_out", "data-value": left.causes }, `And ${count(left.causes)} more causes, ${count(left.items)} items: too many for this page. The task's log and its dead letters have them.`) : null,
    deadLetters(snapshot, links),
  );
}

function deadLetters(snapshot, links) {
  const where = snapshot.dead_letters;
  const given = Object.entries(links ?? {}).filter(([, href]) => typeof href === "string" && /^(https?:\/\/|\/)/.test(href));
  const anchors = given.map(([name, href]) => el("a", { href, rel: "noopener noreferrer" }, name));
  if (!where?.table) return anchors.length ? el("p", {}, anchors) : null;
  const text = snapshot.load_key?.replaceAll("'", "''") ?? "";
  const whose = snapshot.load_key ? `WHERE load_key = '${text}' ` : "";
  const query = `SELECT position, stage, cause, attempts, item FROM ${where.table} ${whose}ORDER BY position`;
  return [
    el("p", { "data-figure": "dead_letters", "data-value": where.table }, "The items are stored as dead letters in table ", el("strong", {}, where.table), ` (connection ${where.conn_id}).`, anchors.flatMap((each) => [" ", each])),
    el("details", { "data-key": "dead-letters" }, el("summary", { "data-key": "dead-letters-summary" }, "Query"), el("pre", {}, el("code", {}, query))),
  ];
}

export function workers(snapshot) {
  const [list, left] = [snapshot.workers ?? [], snapshot.omitted?.workers ?? 0];
  if (!list.length) return left ? el("p", { class: "pp-note" }, `The metrics of ${count(left)} workers one by one do not fit into this page.`) : null;
  const rows = list.map((each) => [each.stage, count(each.number), count(each.calls), seconds(each.busy_seconds), seconds(each.starved_seconds), seconds(each.blocked_seconds), seconds(each.cpu_seconds), each.peak_rss_bytes ? bytes(each.peak_rss_bytes) : "–", each.failed ? count(each.failed) : "–", each.lost ? count(each.lost) : "–"]);
  const heads = ["Stage", number("Worker"), number("Calls"), number("Busy"), number("Starved"), number("Blocked"), number("CPU"), number("Peak memory"), number("Failed"), number("Lost")];
  return el("details", { class: "pp-more", "data-key": "workers" }, el("summary", { "data-key": "workers-summary" }, `Workers one by one (${left ? `${count(list.length)} of ${count(list.length + left)}` : count(list.length)})`), table("workers", heads, rows, "Metrics of each worker"));
}

export function foot(snapshot) {
  const cost = snapshot.seconds > 0 ? (100 * (snapshot.metrics_cpu_seconds ?? 0)) / snapshot.seconds : 0;
  const parts = [`load ${snapshot.load_key ?? "–"}`, `writing these metrics took ${cost.toFixed(cost < 0.1 ? 2 : 1)} % of the time`];
  return el("p", { class: "pp-foot pp-note" }, parts.join(" · "));
}
