// SPDX-License-Identifier: Apache-2.0
// The page of a DAG run: its pipelines, with the sums of the shards of mapped ones. Also the page of all shards of a task.
import { entriesOf, forEachLimited, instanceOf, mappedCount, deniedStatus, pageOf, poll, runOf, errorText, xcom } from "./api.js";
import { count, el, percent, percentDone, rate, section, swap, table } from "./dom.js";
import { numbers, failures, progress } from "./sections.js";
import { itemsDone, itemsTotal } from "./series.js";
import { inOrder, slowestOf, sumOf, sumOfStages, withoutEnds } from "./sums.js";

const [LIVE, ENDED, FETCHED_AT_ONCE, SILENT, SHOWN] = [4000, 20_000, 60, 20_000, 200];

export const mountRun = (root, at) => mountList(root, { ...at, taskId: "~" }, "Pipelines of this run");
export const mountShards = (root, at) => mountList(root, at, "Pipeline, all shards");

function mountList(root, at, title) {
  const [fresh, message, body] = [el("span", { class: "pp-note pp-fresh", role: "status" }), el("div", {}), el("div", { class: "pp-body" })];
  root.replaceChildren(el("header", { class: "pp-header" }, el("h2", {}, title), fresh), message, body);
  const view = { root, at, fresh, message, body, shards: new Map(), counts: new Map() };
  return poll(() => update(view));
}

async function update(view) {
  try {
    return await updateOnce(view);
  } catch (error) {
    if (deniedStatus(error)) {
      swap(view.body);
      swap(view.message, el("p", { class: "pp-empty" }, deniedStatus(error) === 401 ? "You are not signed in." : "You may not read the XComs of this DAG, from which this page is made."));
      return null;
    }
    view.fresh.textContent = errorText(error);
    return LIVE;
  }
}

async function updateOnce(view) {
  const { found, total } = await entriesOf(view.at, "pipeline_metrics");
  const run = await runOf(view.at);
  const running = run && ["running", "queued"].includes(run.state);
  await refresh(view, found);
  const tasks = Map.groupBy(inOrder(view.shards.values()), (shard) => shard.taskId);
  await forEachLimited([...tasks.keys()], 4, async (taskId) => {
    if ([...tasks.get(taskId)].some((shard) => shard.mapIndex >= 0)) view.counts.set(taskId, await mappedCount({ ...view.at, taskId }).catch(() => null));
  });
  view.fresh.textContent = running ? "live" : run?.state ?? "";
  view.root.dataset.live = running ? "yes" : "no";
  swap(view.message, total > found.length ? el("p", { class: "pp-box" }, `These are the sums of only ${count(found.length)} of ${count(total)} shards.`) : null);
  if (!tasks.size) {
    swap(view.message, el("p", { class: "pp-empty" }, running ? "No pipeline has started in this run." : "No task of this run has a pipeline."));
    swap(view.body);
  } else {
    swap(view.body, whole(tasks), [...tasks].map(([taskId, shards]) => card(view, taskId, shards)));
  }
  return running ? LIVE : ENDED;
}

/** Fetch the XComs that have changed, the oldest first; an XCom that is pushed again has a new timestamp. */
async function refresh(view, entries) {
  const key = (entry) => `${entry.task_id}/${entry.map_index}`;
  const present = new Set(entries.map(key));
  for (const each of view.shards.keys()) if (!present.has(each)) view.shards.delete(each);
  const changed = entries.filter((entry) => view.shards.get(key(entry))?.timestamp !== entry.timestamp);
  const oldest = changed.toSorted((one, other) => (view.shards.get(key(one))?.fetched ?? 0) - (view.shards.get(key(other))?.fetched ?? 0));
  await forEachLimited(oldest.slice(0, Math.max(FETCHED_AT_ONCE, view.shards.size ? 0 : 200)), 4, async (entry) => {
    const at = { ...view.at, taskId: entry.task_id, mapIndex: entry.map_index };
    const snapshot = await xcom(at, "pipeline_metrics");
    if (snapshot) view.shards.set(key(entry), { ...at, timestamp: entry.timestamp, fetched: Date.now(), snapshot, state: null });
  });
  await forEachLimited([...view.shards.values()], 4, (shard) => updateState(shard));
}

/** The state of a shard: from its snapshot or, if that is old and not final, from the task instance. */
async function updateState(shard) {
  if (shard.snapshot.final) shard.state = shard.snapshot.state;
  else if (Date.now() - Date.parse(shard.snapshot.updated_at) < SILENT) shard.state = "running";
  else if (!shard.state || shard.state === "running") {
    const state = (await instanceOf(shard))?.state;
    shard.state = state === "running" ? "running" : "lost";
  }
}

function whole(tasks) {
  if (tasks.size < 2) return null;
  const sum = sumOf(withoutEnds(tasks));
  return section("All pipelines of this run", null, progress(sum, sum.state === "running"), numbers(sum));
}

function card(view, taskId, shards) {
  const sum = sumOf(shards);
  const mapped = shards.some((shard) => shard.mapIndex >= 0);
  const at = { ...view.at, taskId };
  const href = mapped ? pageOf(at, "mapped") : pageOf(at, "plugin", "pipeline");
  const expected = view.counts.get(taskId) ?? shards.length;
  const states = [...Map.groupBy(shards, (shard) => shard.state)].map(([state, list]) => `${count(list.length)} ${state === "lost" ? "killed" : state}`);
  if (expected > shards.length) states.push(`${count(expected - shards.length)} not started`);
  const box = el(
    "section",
    { class: "pp-card", "data-task": taskId, "aria-label": `Pipeline ${taskId}` },
    el(
      "div",
      { class: "pp-header" },
      el("h3", {}, el("a", { href, "data-key": `link:${taskId}` }, taskId)),
      el("span", { class: "pp-state", "data-state": sum.state }, mapped ? `${count(expected)} shards: ${states.join(", ")}` : sum.state),
    ),
    progress(sum, sum.state === "running"),
    numbers(sum),
    stageTable(taskId, shards),
    failures(sum, {}),
    mapped ? shardTable(taskId, shards) : null,
  );
  return box;
}

const number = (text) => ({ text, number: true });

function stageTable(taskId, shards) {
  const rows = sumOfStages(shards).map((stage) => [
    el("span", {}, stage.name, " ", stage.limits ? el("span", { class: "pp-chip pp-chip-warn" }, shards.length > 1 ? `bottleneck in ${stage.limits}` : "bottleneck") : null),
    count(stage.workers), count(stage.items_in), stage.rows_out ? `${count(stage.items_out)} (${count(stage.rows_out)} rows)` : count(stage.items_out), stage.failed ? count(stage.failed) : "–", percent(stage.busy), percent(stage.starved), percent(stage.blocked),
  ]);
  const heads = ["Stage", number("Workers"), number("In"), number("Out"), number("Failed"), number("Busy"), number("Starved"), number("Blocked")];
  return table(`stages:${taskId}`, heads, rows, `Stages of ${taskId}`);
}

function shardTable(taskId, shards) {
  const urgent = { failed: 0, lost: 0, stopped: 1, running: 2, success: 3 };
  const sorted = shards.toSorted((one, other) => (urgent[one.state] ?? 2) - (urgent[other.state] ?? 2) || one.mapIndex - other.mapIndex);
  const slowest = slowestOf(shards);
  const rows = sorted.slice(0, SHOWN).map((shard) => {
    const [done, total] = [itemsDone(shard.snapshot), itemsTotal(shard.snapshot)];
    return [
      el("a", { href: pageOf(shard, "plugin", "pipeline"), "data-key": `shard:${taskId}:${shard.mapIndex}` }, `${taskId} [${shard.mapIndex}]`),
      el("span", {}, el("span", { class: "pp-state", "data-state": shard.state }, shard.state === "lost" ? "killed" : shard.state), " ", shard === slowest ? el("span", { class: "pp-chip pp-chip-warn" }, "slowest") : null),
      shard.snapshot.host ?? "–", count((shard.snapshot.chunks_committed ?? 0) + (shard.snapshot.chunks_skipped ?? 0)),
      total ? percentDone(done, total) : count(done), count(shard.snapshot.rows_committed), rate(shard.snapshot.items_per_second), count(shard.snapshot.items_dead_lettered), shard.snapshot.bottleneck ?? "–",
    ];
  });
  const heads = ["Shard", "State", "Host", number("Chunks"), number("Done"), number("Rows"), number("Items per second"), number("Dead letters"), "Bottleneck"];
  const most = shards.length > SHOWN ? `, the first ${SHOWN} of ${shards.length}` : "";
  return el("details", { class: "pp-more", "data-key": `shards:${taskId}` }, el("summary", { "data-key": `shards-summary:${taskId}` }, `Shards one by one (${count(shards.length)})${most}`), table(`shards:${taskId}`, heads, rows, `Shards of ${taskId}`));
}
