// SPDX-License-Identifier: Apache-2.0
// Puts the page into an element and returns the function that removes it.
import { el } from "./dom.js";
import { mountRun } from "./run_page.js";
import { mountTask } from "./task_page.js";

export function mount(host, { dagId, runId, taskId, mapIndex }) {
  const sheet = el("link", { rel: "stylesheet", href: new URL("./pipeline.css", import.meta.url).href });
  const root = el("div", { class: "pp", "data-page": taskId ? "task" : "run" });
  root.style.visibility = "hidden"; // until the style sheet is loaded, so that unstyled content is never visible
  const show = () => root.style.removeProperty("visibility");
  sheet.addEventListener("load", show);
  sheet.addEventListener("error", show);
  host.replaceChildren(sheet, root);
  // "{MAP_INDEX}" stays literal where a task is not mapped.
  const index = /^\d+$/.test(mapIndex ?? "") ? Number(mapIndex) : -1;
  const leave = taskId ? mountTask(root, { dagId, runId, taskId, mapIndex: index }) : mountRun(root, { dagId, runId });
  return () => {
    leave();
    host.replaceChildren();
  };
}
