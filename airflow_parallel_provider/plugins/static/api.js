// SPDX-License-Identifier: Apache-2.0
// Airflow's own REST API, with the session of the user: it returns nothing that the user may not read.
const BASE = new URL("../../", import.meta.url); // the path of [api] base_url
const API = new URL("api/v2/", BASE);

export class ResponseError extends Error {
  constructor(status) {
    super(`Airflow responded with ${status}`);
    this.status = status;
  }
}

export class Unreachable extends Error {}

/** The text of an error for the user. Errors of this page are also reported to the browser's console. */
export function errorText(error) {
  if (error instanceof Unreachable || error instanceof ResponseError) return "Airflow does not respond; trying again";
  reportError(error);
  return `Error in this page: ${error}`;
}

/** The status if Airflow denied access, else null. */
export const deniedStatus = (error) => (error instanceof ResponseError && [401, 403].includes(error.status) ? error.status : null);

const part = (text) => encodeURIComponent(text);
const run = ({ dagId, runId }) => `dags/${part(dagId)}/dagRuns/${part(runId)}`;
const task = (at) => `${run(at)}/taskInstances/${part(at.taskId)}`;

/** The decoded response, or null for a 404. Throws `ResponseError` for other statuses and `Unreachable` without response. */
async function get(path, parameters = {}) {
  const url = new URL(path, API);
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
  const headers = { Accept: "application/json" };
  const token = localStorage.getItem("token"); // of Airflow 3.1.0; later versions use a cookie
  if (token) headers.Authorization = `Bearer ${token.replace(/^"|"$/g, "")}`;
  const response = await fetch(url, { credentials: "same-origin", headers }).catch((error) => {
    throw new Unreachable(String(error));
  });
  if (response.status === 404) return null;
  if (!response.ok) throw new ResponseError(response.status);
  return response.json();
}

/** The snapshot of an entry, or null: a custom XCom backend may have stored a reference instead. */
const snapshotIn = (entry) => (entry && typeof entry.value === "object" ? entry.value : null);

export const instanceOf = (at) => get(at.mapIndex >= 0 ? `${task(at)}/${at.mapIndex}` : task(at));

export const xcom = async (at, key) =>
  snapshotIn(await get(`${task(at)}/xcomEntries/${part(key)}`, { map_index: at.mapIndex, deserialize: "false", stringify: "false" }));

/** The snapshot of one try from the task state store, which Airflow has from 3.3 on. */
export const storedTry = async (at, number) =>
  snapshotIn(await get(`${task(at)}/state-store/pipeline_metrics/try-${number}`, { map_index: at.mapIndex }));

export async function triesOf(at) {
  const path = at.mapIndex >= 0 ? `${task(at)}/${at.mapIndex}/tries` : `${task(at)}/tries`;
  return (await get(path))?.task_instances ?? [];
}

/** The addresses of the operator's extra links, by name. */
export const linksOf = (at) => get(`${task(at)}/links`, { map_index: at.mapIndex });

/** The XCom entries with one key, of a run (taskId "~") or of a task; without values, so it is cheap. */
export async function entriesOf(at, key, most = 1000) {
  const found = [];
  for (;;) {
    const page = await get(`${task(at)}/xcomEntries`, { xcom_key: key, limit: 100, offset: found.length });
    found.push(...(page?.xcom_entries ?? []));
    if (!page?.xcom_entries?.length || found.length >= Math.min(page.total_entries, most)) return { found, total: page?.total_entries ?? 0 };
  }
}

export const runOf = (at) => get(run(at));

/** The number of shards of a mapped task. */
export const mappedCount = async (at) => (await get(`${task(at)}/listMapped`, { limit: 1 }))?.total_entries ?? null;

export const runsBefore = async (at, moment, most) =>
  (await get(`dags/${part(at.dagId)}/dagRuns`, { order_by: "-run_after", limit: most, run_after_lte: moment }))?.dag_runs ?? [];

/** Call `work` for each element of `list`, at most `width` at the same time. */
export async function forEachLimited(list, width, work) {
  const left = [...list];
  await Promise.all(Array.from({ length: Math.min(width, left.length) }, async () => {
    while (left.length) await work(left.shift());
  }));
}

/** The address of a page of Airflow. */
export function pageOf({ dagId, runId, taskId, mapIndex = -1 }, ...more) {
  const parts = ["dags", dagId, "runs", runId, ...(taskId ? ["tasks", taskId] : []), ...(mapIndex >= 0 ? ["mapped", String(mapIndex)] : [])];
  return new URL([...parts, ...more].map(part).join("/"), BASE).pathname;
}

/**
 * Call `update` again and again until it returns null; it returns the milliseconds to wait. Slower on a hidden page.
 * Returns the function that ends the polling.
 */
export function poll(update) {
  let timer = 0;
  let stopped = false;
  let busy = false;
  let again = false;
  async function turn() {
    if (busy || stopped) {
      again = true;
      return;
    }
    [busy, again] = [true, false];
    const wait = await update();
    busy = false;
    if (stopped) return;
    if (again) turn();
    else if (wait !== null) timer = setTimeout(turn, document.hidden ? Math.max(wait, 10_000) : wait);
  }
  const now = () => {
    if (document.hidden) return;
    clearTimeout(timer);
    turn();
  };
  document.addEventListener("visibilitychange", now);
  turn();
  return Object.assign(
    () => {
      stopped = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", now);
    },
    { now },
  );
}
