// SPDX-License-Identifier: Apache-2.0
// The page in a frame: follows the colors of the page around it.
import { mount } from "./mount.js";

const page = document.documentElement;

function follow() {
  let dark;
  try {
    dark = parent.document.documentElement.classList.contains("dark");
  } catch {
    dark = matchMedia("(prefers-color-scheme: dark)").matches;
  }
  page.classList.toggle("dark", dark);
}

follow();
try {
  new MutationObserver(follow).observe(parent.document.documentElement, { attributes: true, attributeFilter: ["class"] });
} catch {
  // The page around has another origin: use the colors of the system.
}
const [, dagId, runId, taskId, mapIndex] = location.hash.slice(1).split("/").map(decodeURIComponent);
mount(document.body, { dagId, runId, taskId, mapIndex });
