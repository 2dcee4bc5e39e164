// SPDX-License-Identifier: Apache-2.0
// Sums of shards: one snapshot for all of them.
const SUMMED = [
  "items_read", "items_committed", "items_filtered", "items_dead_lettered", "items_skipped", "items_unfinished", "rows_rejected",
  "rows_committed", "chunks_committed", "chunks_skipped", "cpu_seconds", "peak_rss_bytes", "estimated_serial_seconds",
];

const total = (list, value) => list.reduce((sum, each) => sum + (value(each) ?? 0), 0);

/** `shards` of `{ snapshot, state }`. Memory is the sum of the peaks: the need of all shards at the same time. */
export function sumOf(shards) {
  const snapshots = shards.map((shard) => shard.snapshot);
  const running = shards.filter((shard) => shard.state === "running").map((shard) => shard.snapshot);
  const states = new Set(shards.map((shard) => shard.state));
  const state = ["running", "failed", "lost", "stopped"].find((each) => states.has(each)) ?? "success";
  const seconds = wallSeconds(snapshots);
  const sum = Object.fromEntries(SUMMED.map((name) => [name, total(snapshots, (each) => each[name])]));
  const totals = snapshots.map((each) => (each.final && each.state === "success" ? each.items_read : each.items_total));
  const remaining = running.map((each) => each.seconds_left);
  return {
    ...sum,
    shards: shards.length,
    part: snapshots.length && snapshots.every((each) => each.part === snapshots[0].part) ? snapshots[0].part ?? null : null,
    state,
    final: state !== "running",
    seconds,
    items_total: totals.every((each) => typeof each === "number") ? total(totals, (each) => each) : null,
    items_per_second: seconds > 0 ? (sum.items_read - sum.items_skipped - sum.items_unfinished) / seconds : 0,
    recent_items_per_second: total(running, (each) => each.recent_items_per_second),
    seconds_left: remaining.length && remaining.every((each) => typeof each === "number") ? Math.max(...remaining) : null,
    speedup: null,
    failures: causes(snapshots),
    omitted: omitted(snapshots),
    dead_letters: snapshots.find((each) => each.dead_letters)?.dead_letters ?? null,
    load_key: null,
  };
}

/** The pipelines of a run without those whose figures are already in others: the end of a sharded load has the whole load's. */
export function withoutEnds(tasks) {
  const group = (taskId) => taskId.slice(0, taskId.lastIndexOf(".") + 1);
  const isEnd = (shards) => shards.every((shard) => shard.snapshot.part === "finish");
  const sharded = new Set([...tasks].filter(([, shards]) => !isEnd(shards)).map(([taskId]) => group(taskId)));
  return [...tasks].filter(([taskId, shards]) => !(isEnd(shards) && sharded.has(group(taskId)))).flatMap(([, shards]) => shards);
}

/** By their begin, so that the tasks of a load stand as they ran: its shards, then its end. */
export function inOrder(shards) {
  const isEnd = (shard) => Number(shard.snapshot.part === "finish");
  return [...shards].toSorted((one, other) => isEnd(one) - isEnd(other) || beginOf(one.snapshot) - beginOf(other.snapshot) || one.mapIndex - other.mapIndex);
}

const WELL_BEHIND = 1.2;

/** Seconds of a shard until its end, as far as it can be told. */
const secondsOf = (shard) => (shard.snapshot.seconds ?? 0) + (shard.state === "running" ? shard.snapshot.seconds_left ?? 0 : 0);

/** The shard that takes longest, if it takes well longer than the one in the middle; else null. */
export function slowestOf(shards) {
  const sorted = shards.toSorted((one, other) => secondsOf(one) - secondsOf(other));
  const [middle, last] = [sorted[Math.floor((sorted.length - 1) / 2)], sorted.at(-1)];
  return sorted.length > 1 && secondsOf(last) > WELL_BEHIND * secondsOf(middle) ? last : null;
}

/** From the first start to the last end: shards may run one after the other, so neither rates nor times add up. */
function wallSeconds(snapshots) {
  const known = snapshots.filter((each) => Number.isFinite(beginOf(each)));
  if (!known.length) return 0;
  return (Math.max(...known.map((each) => Date.parse(each.updated_at))) - Math.min(...known.map(beginOf))) / 1000;
}

/** When the run of a snapshot began, milliseconds. */
const beginOf = (snapshot) => Date.parse(snapshot.updated_at) - (snapshot.seconds ?? 0) * 1000;

/** What the snapshots left out: added up, so a cause may count once for each shard. */
function omitted(snapshots) {
  const sum = (name) => total(snapshots, (each) => each.omitted?.[name]);
  return { failures: sum("failures"), failed_items: sum("failed_items") };
}

/** As the engine counts: errors of one type raised at one place are one cause, and numbers do not distinguish others. */
function identity(cause) {
  const [kind] = /^[\w.]+/.exec(cause.cause) ?? [""];
  const [, place] = /\(([^()]*:\d+)\)$/.exec(cause.cause) ?? [];
  const common = place ? `${kind}: … (${place})` : cause.cause;
  return [JSON.stringify([cause.stage, place ? common : cause.cause.replace(/\d+/g, "#")]), common];
}

function causes(snapshots) {
  const found = new Map();
  for (const cause of snapshots.flatMap((each) => each.failures ?? [])) {
    const [key, common] = identity(cause);
    const known = found.get(key);
    const text = known && known.cause !== cause.cause ? common : cause.cause;
    found.set(key, known ? { ...known, cause: text, count: known.count + cause.count } : cause);
  }
  return [...found.values()].toSorted((one, other) => other.count - one.count);
}

/** One row per stage; the shares refer to the time of all workers together. */
export function sumOfStages(shards) {
  const names = [...new Set(shards.flatMap((shard) => (shard.snapshot.stages ?? []).map((stage) => stage.name)))];
  return names.map((name) => {
    const same = shards.flatMap((shard) => (shard.snapshot.stages ?? []).filter((stage) => stage.name === name));
    const time = total(same, (stage) => (stage.busy_fraction > 0 ? stage.busy_seconds / stage.busy_fraction : 0));
    const share = (field) => (time > 0 ? Math.min(1, total(same, (stage) => stage[field]) / time) : null);
    return {
      name,
      workers: total(same, (stage) => stage.workers_now || stage.workers),
      items_in: total(same, (stage) => stage.items_in),
      items_out: total(same, (stage) => stage.items_out),
      rows_out: total(same, (stage) => stage.rows_out ?? 0),
      failed: total(same, (stage) => stage.failed),
      busy: share("busy_seconds"),
      starved: share("starved_seconds"),
      blocked: share("blocked_seconds"),
      limits: shards.filter((shard) => shard.snapshot.bottleneck === name).length,
    };
  });
}
