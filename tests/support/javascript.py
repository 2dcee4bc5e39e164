"""The scripts of the Pipeline tab, in the Node that Playwright brings."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import airflow_parallel_provider.plugins

STATIC = Path(airflow_parallel_provider.plugins.__file__).parent / "static"


def call(script: str, expression: str, **values: Any) -> Any:
    """The JSON of an expression over ``script`` (a module of the tab, by that name) and some values."""
    from playwright._impl._driver import compute_driver_executable

    found = compute_driver_executable()
    node = found[0] if isinstance(found, tuple) else found
    names = "".join(f"const {name} = {json.dumps(value)};" for name, value in values.items())
    module = f"const {script} = await import({json.dumps((STATIC / f'{script}.js').as_uri())}); {names}"
    command = [node, "--input-type=module", "-e", f"{module} console.log(JSON.stringify({expression}))"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
