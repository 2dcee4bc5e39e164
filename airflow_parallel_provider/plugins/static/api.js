// Airflow's own REST API, with the session of whoever looks: what that person may not read does not get here.
const BASE = new URL("../../", import.meta.url); // the path of [api] base_url, whatever it is
const API = new URL("api/v2/", BASE);

export class Refused extends Error {
  constructor(status) {
    super(`Airflow answered ${status}`);
    this.status = status;
  }
}

export class Unreachable extends Error {}

/** What to tell the reader of an error; one of our own is also told to the browser, and to whoever watches it. */
export function wordsFor(error) {
  if (error instanceof Unreachable || error instanceof Refused) return "Airflow does not answer; trying again";
  reportError(error);
  return `This page has a fault: ${error}`;
}

export const mayNot = (error) => (error instanceof Refused && [401, 403].includes(error.status) ? error.status : null);

const part = (text) => encodeURIComponent(text);
const run = ({ dagId, runId }) => `dags/${part(dagId)}/dagRuns/${part(runId)}`;
const task = (at) => `${run(at)}/taskInstances/${part(at.taskId)}`;

/** The decoded answer, or null where there is nothing. Throws `Refused` for 401 and 403, and what fetch throws. */
async function get(path, parameters = {}) {
  const url = new URL(path, API);
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
  const headers = { Accept: "application/json" };
  const token = localStorage.getItem("token"); // Airflow 3.1.0 keeps it there; later ones have a cookie
  if (token) headers.Authorization = `Bearer ${token.replace(/^"|"$/g, "")}`;
  const answer = await fetch(url, { credentials: "same-origin", headers }).catch((error) => {
    throw new Unreachable(String(error));
  });
  if (answer.status === 404) return null;
  if (!answer.ok) throw new Refused(answer.status);
  return answer.json();
}

/** A snapshot, or null; a custom XCom backend may have put it elsewhere and left a reference, which is none. */
const snapshotIn = (entry) => (entry && typeof entry.value === "object" ? entry.value : null);

export const instanceOf = (at) => get(at.mapIndex >= 0 ? `${task(at)}/${at.mapIndex}` : task(at));

export const xcom = async (at, key) =>
  snapshotIn(await get(`${task(at)}/xcomEntries/${part(key)}`, { map_index: at.mapIndex, deserialize: "false", stringify: "false" }));

/** Figures of one try from the task state store, which Airflow has from 3.3 on. */
export const keptTry = async (at, number) =>
  snapshotIn(await get(`${task(at)}/state-store/pipeline_metrics/try-${number}`, { map_index: at.mapIndex }));

export async function triesOf(at) {
  const path = at.mapIndex >= 0 ? `${task(at)}/${at.mapIndex}/tries` : `${task(at)}/tries`;
  return (await get(path))?.task_instances ?? [];
}

/** Addresses that the operator's extra links give, by name. */
export const linksOf = (at) => get(`${task(at)}/links`, { map_index: at.mapIndex });

/** Which XComs of one key there are: of a run (taskId "~"), or of a task. No values, so it is cheap. */
export async function entriesOf(at, key, most = 1000) {
  const found = [];
  for (;;) {
    const page = await get(`${task(at)}/xcomEntries`, { xcom_key: key, limit: 100, offset: found.length });
    found.push(...(page?.xcom_entries ?? []));
    if (!page?.xcom_entries?.length || found.length >= Math.min(page.total_entries, most)) return { found, total: page?.total_entries ?? 0 };
  }
}

export const runOf = (at) => get(run(at));

/** How many shards a mapped task has. */
export const mappedCount = async (at) => (await get(`${task(at)}/listMapped`, { limit: 1 }))?.total_entries ?? null;

export const runsBefore = async (at, moment, most) =>
  (await get(`dags/${part(at.dagId)}/dagRuns`, { order_by: "-run_after", limit: most, run_after_lte: moment }))?.dag_runs ?? [];

/** Do `work` for each of `list`, at most `width` at a time. */
export async function inTurns(list, width, work) {
  const left = [...list];
  await Promise.all(Array.from({ length: Math.min(width, left.length) }, async () => {
    while (left.length) await work(left.shift());
  }));
}

/** Address of a page of Airflow. */
export function pageOf({ dagId, runId, taskId, mapIndex = -1 }, ...more) {
  const parts = ["dags", dagId, "runs", runId, ...(taskId ? ["tasks", taskId] : []), ...(mapIndex >= 0 ? ["mapped", String(mapIndex)] : [])];
  return new URL([...parts, ...more].map(part).join("/"), BASE).pathname;
}

/**
 * Call `look` again and again until it returns null; it returns the milliseconds to wait. Slower where nobody looks.
 * Returns the function that ends it.
 */
export function poll(look) {
  let timer = 0;
  let gone = false;
  let busy = false;
  let again = false;
  async function turn() {
    if (busy || gone) {
      again = true;
      return;
    }
    [busy, again] = [true, false];
    const wait = await look();
    busy = false;
    if (gone) return;
    if (again) turn();
    else if (wait !== null) timer = setTimeout(turn, document.hidden ? Math.max(wait, 10_000) : wait);
  }
  const back = () => {
    if (document.hidden) return;
    clearTimeout(timer);
    turn();
  };
  document.addEventListener("visibilitychange", back);
  turn();
  return Object.assign(
    () => {
      gone = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", back);
    },
    { now: back },
  );
}
