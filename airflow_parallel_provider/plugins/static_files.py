# SPDX-License-Identifier: Apache-2.0
"""Serves the files of the Pipeline tab, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response  # noqa: TID253 - only the API server imports this module
from fastapi.staticfiles import StaticFiles  # noqa: TID253

FOLDER = Path(__file__).parent / "static"


class _Files(StaticFiles):
    """Static files that a browser requests again after an upgrade: the check against the ETag costs a millisecond."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def create_app() -> FastAPI:
    """The app that Airflow mounts. It has no data, so it needs no access check."""
    app = FastAPI(title="Parallel pipelines", docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/static", _Files(directory=FOLDER), name="static")
    return app
