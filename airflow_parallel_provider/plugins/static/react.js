// SPDX-License-Identifier: Apache-2.0
// Airflow imports this module and then takes globalThis["Pipeline"] ?? globalThis.AirflowPlugin as a React component.
// It uses the React of the host page: there is no bundle, and no second version of React.
import { mount } from "./mount.js";

const React = globalThis.React;

function Pipeline({ dagId, runId, taskId, mapIndex }) {
  const host = React.useRef(null);
  React.useEffect(() => mount(host.current, { dagId, runId, taskId, mapIndex }), [dagId, runId, taskId, mapIndex]);
  return React.createElement("div", { ref: host, style: { height: "100%", width: "100%", overflow: "auto" } });
}

globalThis.Pipeline = Pipeline;
globalThis.AirflowPlugin = Pipeline;
