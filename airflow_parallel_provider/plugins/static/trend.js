// SPDX-License-Identifier: Apache-2.0
// Compares the costs of this run with those of the last successful runs of the same task.
import { forEachLimited, pageOf, runsBefore, xcom } from "./api.js";
import { bars } from "./chart.js";
import { bytes, count, el, moment, percent, rate, seconds, section, swap } from "./dom.js";

const RUNS = 12;

const COSTS = [
  ["Time", "seconds", (run) => run.seconds, seconds, "less"],
  ["Items per second", "items_per_second", (run) => run.items_per_second, rate, "more"],
  ["CPU time per 1000 items", "cpu", (run) => cpuPerThousand(run), seconds, "less"],
  ["Peak memory", "peak_rss_bytes", (run) => run.peak_rss_bytes, bytes, "less"],
];

function cpuPerThousand(run) {
  const items = (run.items_read ?? 0) - (run.items_skipped ?? 0);
  return items > 0 ? (run.cpu_seconds / items) * 1000 : null;
}

const median = (values) => {
  const sorted = values.toSorted((one, other) => one - other);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};

/** Shows the comparison; fetches the earlier runs once. */
export async function trend(view, snapshot, instance) {
  const since = instance.run_after ?? instance.start_date;
  if (!view.before && since) view.before = await before(view.at, since);
  const failed = snapshot.final && snapshot.state !== "success"; // the costs of a part of a run compare with nothing
  if (!view.before?.length || !snapshot.seconds || failed) return swap(view.past);
  const runs = [...view.before, { runId: view.at.runId, label: "this run", current: true, report: snapshot }];
  const charts = COSTS.map(([title, , value, format]) => {
    const shown = runs.map((run) => ({ label: run.label, value: value(run.report), current: run.current, href: run.current ? null : run.href }));
    const usual = shown.filter((run) => !run.current && typeof run.value === "number").map((run) => run.value);
    const mine = shown[shown.length - 1].value;
    return bars({ title, runs: shown, format, note: `${format(mine)}${compared(mine, usual, snapshot)}` });
  });
  const note = `compared with the last ${count(view.before.length)} successful runs of this task`;
  const box = section("This run and the ones before", note, el("div", { class: "pp-trends" }, charts));
  return swap(view.past, box);
}

function compared(mine, usual, snapshot) {
  if (!snapshot.final || !usual.length || typeof mine !== "number") return "";
  const middle = median(usual);
  if (!(middle > 0)) return "";
  const change = mine / middle - 1;
  return Math.abs(change) < 0.02 ? ", as usual" : `, ${percent(Math.abs(change))} ${change > 0 ? "more" : "less"} than usual`;
}

async function before(at, until) {
  const found = [];
  const runs = (await runsBefore(at, until, RUNS).catch(() => [])).filter((run) => run.dag_run_id !== at.runId);
  await forEachLimited(runs, 4, async (run) => {
    const there = { ...at, runId: run.dag_run_id };
    const report = await xcom(there, "return_value").catch(() => null);
    if (report?.state !== "success" || !report.seconds) return;
    const label = moment(run.run_after ?? run.start_date);
    found.push({ runId: run.dag_run_id, label, when: run.run_after ?? "", href: pageOf(there, "plugin", "pipeline"), report });
  });
  return found.toSorted((one, other) => one.when.localeCompare(other.when));
}
