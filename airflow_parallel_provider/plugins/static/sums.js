// Sums of shards: one snapshot for all of them.
const SUMMED = [
  "items_read", "items_committed", "items_filtered", "items_dead_lettered", "items_skipped", "items_unfinished",
  "rows_committed", "chunks_committed", "chunks_skipped", "cpu_seconds", "peak_rss_bytes", "estimated_serial_seconds",
];

const total = (list, value) => list.reduce((sum, each) => sum + (value(each) ?? 0), 0);

/** `shards` of `{ snapshot, state }`. Memory is the sum of the peaks: the need of all shards at the same time. */
export function sumOf(shards) {
  const snapshots = shards.map((shard) => shard.snapshot);
  const running = shards.filter((shard) => shard.state === "running").map((shard) => shard.snapshot);
  const states = new Set(shards.map((shard) => shard.state));
  const state = ["running", "failed", "lost", "stopped"].find((each) => states.has(each)) ?? "success";
  const seconds = Math.max(0, ...snapshots.map((each) => each.seconds ?? 0));
  const sum = Object.fromEntries(SUMMED.map((name) => [name, total(snapshots, (each) => each[name])]));
  const totals = snapshots.map((each) => (each.final && each.state === "success" ? each.items_read : each.items_total));
  const remaining = running.map((each) => each.seconds_left);
  return {
    ...sum,
    shards: shards.length,
    state,
    final: state !== "running",
    seconds,
    items_total: totals.every((each) => typeof each === "number") ? total(totals, (each) => each) : null,
    items_per_second: total(snapshots, (each) => each.items_per_second),
    recent_items_per_second: total(running, (each) => each.recent_items_per_second),
    seconds_left: remaining.length && remaining.every((each) => typeof each === "number") ? Math.max(...remaining) : null,
    speedup: 0,
    failures: causes(snapshots),
    dead_letters: snapshots.find((each) => each.dead_letters)?.dead_letters ?? null,
    load_key: null,
  };
}

function causes(snapshots) {
  const found = new Map();
  for (const cause of snapshots.flatMap((each) => each.failures ?? [])) {
    const key = JSON.stringify([cause.stage, cause.cause.replace(/\d+/g, "#")]); // numbers do not distinguish causes
    const known = found.get(key);
    found.set(key, known ? { ...known, count: known.count + cause.count } : cause);
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
      failed: total(same, (stage) => stage.failed),
      busy: share("busy_seconds"),
      starved: share("starved_seconds"),
      blocked: share("blocked_seconds"),
      limits: shards.filter((shard) => shard.snapshot.bottleneck === name).length,
    };
  });
}
