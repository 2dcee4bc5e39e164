// SPDX-License-Identifier: Apache-2.0
// The data of the curves, from the columns of a snapshot's history. Columns that only grow become rates and shares.

/** The indexes of samples that are far enough apart for meaningful differences. */
function intervals(seconds) {
  const span = seconds.length > 1 ? seconds[seconds.length - 1] - seconds[0] : 0;
  const least = Math.max(0.2, (span / Math.max(1, seconds.length - 1)) * 0.45);
  const ends = [0];
  for (let at = 1; at < seconds.length; at++) {
    if (seconds[at] - seconds[ends[ends.length - 1]] >= least) ends.push(at);
  }
  return ends;
}

/**
 * Shares of the workers' time in each interval. A call or a wait is reported when it ends: the time that exceeds an
 * interval's capacity belongs to the intervals before. Calls that still run at the end of the curve are not reported
 * yet, and are left blank.
 */
function sharesOf(reported, capacity) {
  const shares = capacity.map(() => [0, 0, 0]);
  let excess = [0, 0, 0];
  for (let at = capacity.length - 1; at >= 0; at--) {
    const here = reported.map((part, kind) => part[at] + excess[kind]);
    const sum = here[0] + here[1] + here[2];
    const fitting = sum > capacity[at] && sum > 0 ? capacity[at] / sum : 1;
    excess = here.map((part) => part * (1 - fitting));
    if (capacity[at] > 0) shares[at] = here.map((part) => (part * fitting) / capacity[at]);
  }
  return shares;
}

export function curves(snapshot) {
  const history = snapshot.history ?? {};
  const all = history.seconds ?? [];
  const ends = intervals(all);
  const at = ends.map((end) => all[end]);
  const pick = (column) => ends.map((end) => column?.[end] ?? null);
  const growth = (column) => ends.slice(1).map((end, index) => Math.max(0, (column?.[end] ?? 0) - (column?.[ends[index]] ?? 0)));
  const perSecond = (column) => growth(column).map((grown, index) => grown / (all[ends[index + 1]] - all[ends[index]]));
  // The last sample of a run that has ended is taken without workers, so it says nothing about them.
  const working = snapshot.final ? ends.length - 2 : ends.length - 1;
  const stages = (snapshot.stages ?? [])
    .filter((stage) => history.stages?.[stage.name])
    .map((stage) => {
      const columns = history.stages[stage.name];
      const reported = ["busy_seconds", "starved_seconds", "blocked_seconds"].map((name) => growth(columns[name]));
      const capacity = ends.slice(1).map((end, index) => (all[end] - all[ends[index]]) * (columns.workers_now?.[end] || columns.workers_now?.[ends[index]] || 0));
      const shares = sharesOf(reported, capacity).slice(0, working);
      const quantile = (name) => pick(columns[name]).map((value) => value || null);
      return {
        name: stage.name,
        out: perSecond(columns.items_out),
        queue: pick(columns.queue_now),
        workers: pick(columns.workers_now).map((value, index) => (index > working ? null : value)),
        busy: shares.map((each) => each[0]),
        starved: shares.map((each) => each[1]),
        blocked: shares.map((each) => each[2]),
        p50: quantile("p50_ms"),
        p95: quantile("p95_ms"),
        p99: quantile("p99_ms"),
      };
    });
  return {
    at,
    between: at.slice(1),
    working: at.slice(1, working + 1),
    enough: at.length > 2,
    read: pick(history.items_read),
    done: pick(history.items_done),
    rows: perSecond(history.rows_committed),
    failed: pick(history.items_dead_lettered),
    cpus: perSecond(history.cpu_seconds),
    memory: pick(history.rss_bytes),
    stages,
  };
}

export const itemsDone = (snapshot) =>
  (snapshot.items_committed ?? 0) + (snapshot.items_filtered ?? 0) + (snapshot.items_dead_lettered ?? 0) + (snapshot.items_skipped ?? 0);

/** The total number of items; after a success the number that was read, whatever the source announced. */
export function itemsTotal(snapshot) {
  if (snapshot.final && snapshot.state === "success") return snapshot.items_read ?? null;
  return snapshot.items_total ?? null;
}
