// SPDX-License-Identifier: Apache-2.0
// The page of one task instance: shows one of its tries, and updates it every two seconds while it runs.
import { instanceOf, storedTry, linksOf, deniedStatus, poll, triesOf, errorText, xcom } from "./api.js";
import { count, el, moment, seconds, swap } from "./dom.js";
import { flow } from "./flow.js";
import * as parts from "./sections.js";
import { curves } from "./series.js";
import { mountShards } from "./run_page.js";
import { trend } from "./trend.js";

const [LIVE, WAITING, ENDED] = [2000, 4000, 15_000];
const UNFINISHED = new Set(["running", "restarting", "queued", "scheduled", "up_for_retry", "up_for_reschedule", "deferred", null, undefined]);
const STATE_TEXTS = { success: "success", failed: "failed", stopped: "stopped", running: "running", lost: "ended without a report" };

export function mountTask(root, at) {
  const pick = el("select", { id: "pp-try", "data-key": "try" });
  const chooser = el("label", { class: "pp-try", for: "pp-try" }, "Try ", pick);
  const [state, fresh] = [el("span", { class: "pp-state", role: "status" }), el("span", { class: "pp-note pp-fresh" })];
  const [message, body, past] = [el("div", { class: "pp-message" }), el("div", { class: "pp-body" }), el("div", {})];
  root.replaceChildren(el("header", { class: "pp-header" }, el("h2", {}, "Pipeline"), state, fresh, chooser), message, body, past);
  chooser.hidden = true;
  const view = { root, at, pick, chooser, state, fresh, message, body, past, chosen: null, shown: null, links: {}, leave: null };
  const stop = poll(() => update(view));
  pick.addEventListener("change", () => {
    view.chosen = Number(pick.value) === view.current ? null : Number(pick.value);
    stop.now();
  });
  return () => {
    stop();
    view.leave?.();
  };
}

async function update(view) {
  try {
    return await updateOnce(view);
  } catch (error) {
    if (deniedStatus(error)) {
      const words = deniedStatus(error) === 401 ? "You are not signed in." : "You may not read the XComs of this task, from which this page is made.";
      empty(view, words);
      return null;
    }
    view.fresh.textContent = errorText(error);
    return WAITING;
  }
}

async function updateOnce(view) {
  const { at } = view;
  // The first request, since the permission to read XComs decides over all of this page, whatever its source.
  let pushed = await xcom(at, "pipeline_metrics");
  const instance = await instanceOf(at);
  if (!instance) return shards(view);
  const unfinished = UNFINISHED.has(instance.state);
  // The task may have pushed its last snapshot and ended between the two responses; then it is not lost.
  if (!unfinished && !pushed?.final) pushed = await xcom(at, "pipeline_metrics");
  view.current = instance.try_number;
  await updateChooser(view, instance);
  const wanted = view.chosen ?? instance.try_number;
  const snapshot = await of(view, pushed, wanted);
  if (!snapshot) {
    const none = wanted > 1 ? await showTryBefore(view, wanted) : null;
    if (!none) empty(view, nothing(instance, wanted, view.chosen !== null));
    return unfinished ? WAITING : ENDED;
  }
  const live = !snapshot.final && instance.state === "running" && snapshot.attempt === instance.try_number;
  if (snapshot.failures?.length) view.links = (await linksOf(at).catch(() => null)) ?? view.links;
  show(view, snapshot, live);
  await trend(view, snapshot, instance);
  return unfinished ? (live ? LIVE : WAITING) : ENDED;
}

/** The snapshot of a try: that of the last try is the XCom, the others are in the task state store. */
async function of(view, pushed, number) {
  if (pushed && pushed.attempt === number) return pushed;
  const kept = view.shown?.attempt === number && view.shown.final ? view.shown : await storedTry(view.at, number);
  return kept ?? (view.chosen === null ? pushed : null);
}

async function showTryBefore(view, number) {
  if (view.chosen !== null) return null;
  const before = await storedTry(view.at, number - 1);
  if (before) {
    show(view, before, false);
    swap(view.message, el("p", { class: "pp-box" }, `Try ${count(number)} has no metrics yet; these are from try ${count(number - 1)}.`));
  }
  return before;
}

function nothing(instance, number, chosen) {
  if (chosen) return `No metrics are stored of try ${number}. Airflow stores them from version 3.3 on.`;
  if (UNFINISHED.has(instance.state)) return "No metrics yet. If this task runs a pipeline, they appear soon after it starts.";
  return "This task has no pipeline. The tab shows the stages, queues and failures of tasks that run one.";
}

async function updateChooser(view, instance) {
  const key = `${instance.try_number}/${instance.state}`;
  if (view.tries === key) return;
  view.tries = key;
  view.chooser.hidden = !(instance.try_number > 1);
  if (view.chooser.hidden) return;
  const states = new Map((await triesOf(view.at).catch(() => [])).map((each) => [each.try_number, each.state]));
  states.set(instance.try_number, instance.state);
  const numbers = Array.from({ length: instance.try_number }, (_, index) => instance.try_number - index);
  const label = (number) => (states.get(number) ? `${number} · ${states.get(number)}` : `${number}`);
  view.pick.replaceChildren(...numbers.map((number) => el("option", { value: number }, label(number))));
  view.pick.value = String(view.chosen ?? instance.try_number);
}

function empty(view, words) {
  view.state.textContent = "";
  view.fresh.textContent = "";
  view.state.removeAttribute("data-state");
  view.root.dataset.live = "no";
  view.shown = null;
  swap(view.message, el("p", { class: "pp-empty" }, words));
  swap(view.body);
  swap(view.past);
}

/** A mapped task has no instance of its own: show the sums of its shards. */
function shards(view) {
  if (view.at.mapIndex >= 0) {
    empty(view, "There is no such task instance.");
    return ENDED;
  }
  view.leave = mountShards(view.root, view.at);
  return null;
}

function show(view, snapshot, live) {
  const how = live ? "running" : snapshot.final ? snapshot.state : "lost";
  view.root.dataset.live = live ? "yes" : "no";
  if (view.state.dataset.state !== how) {
    view.state.dataset.state = how;
    view.state.textContent = STATE_TEXTS[how] ?? String(how);
  }
  view.fresh.textContent = live ? `live · ${ago(snapshot.updated_at)}` : moment(snapshot.updated_at);
  const key = `${snapshot.attempt}/${snapshot.updated_at}/${live}`;
  if (view.shownKey === key && view.shown) return;
  [view.shown, view.shownKey] = [snapshot, key];
  view.root.dataset.attempt = snapshot.attempt;
  const last = how === "lost" ? el("p", { class: "pp-box pp-problems" }, `The task's process ended without a report: it was killed, or could not reach Airflow. These are the last metrics it sent, after ${seconds(snapshot.seconds ?? 0)}.`) : null;
  swap(view.message, last);
  const lines = curves(snapshot);
  swap(
    view.body,
    parts.progress(snapshot, live),
    parts.problems(snapshot),
    flow(snapshot, lines),
    parts.advice(snapshot),
    parts.numbers(snapshot),
    parts.shards(snapshot),
    parts.failures(snapshot, view.links),
    parts.overTime(snapshot, lines),
    parts.decisions(snapshot),
    parts.perStageOverTime(snapshot, lines),
    parts.workers(snapshot),
    parts.foot(snapshot),
  );
}

function ago(moment) {
  const passed = Math.max(0, Math.round((Date.now() - Date.parse(moment)) / 1000));
  return passed < 2 ? "now" : `${passed} s ago`;
}
