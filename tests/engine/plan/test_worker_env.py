"""Environment variables of worker processes, by index: what may be declared, and what each worker gets."""

from __future__ import annotations

import importlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import PlanError, Retry, Stage, get_worker_info
from airflow_parallel_provider.engine.plan.worker_env import environments
from tests.engine.functions.test_worker_info import arrivals, meet_in
from tests.support.running import run_pipeline
from tests.support.sync import WAIT_SECONDS, Once


def look(item: object) -> str:
    return os.environ["DEVICES"]


def same(item: Any) -> Any:
    return item


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({"DEVICES": "{index}"}, ["0", "1", "2"]),
        ({"DEVICES": "cuda:{index}"}, ["cuda:0", "cuda:1", "cuda:2"]),
        ({"DEVICES": "{not} {index}%"}, ["{not} 0%", "{not} 1%", "{not} 2%"]),
        ({"DEVICES": ["a", "b"]}, ["a", "b", "a"]),
        ({"DEVICES": ("a", "b", "{index}")}, ["a", "b", "2"]),
        ([{"DEVICES": "a"}, {"DEVICES": "b"}], ["a", "b", "a"]),
        (lambda index: {"DEVICES": str(index % 2)}, ["0", "1", "0"]),
    ],
)
def test_by_index(declared: Any, expected: list[str]) -> None:
    assert environments("worker_env", declared, 3) == [{"DEVICES": each} for each in expected]


@pytest.mark.parametrize("kind", ["thread", "inline"])
def test_only_processes_have_an_environment(kind: Any) -> None:
    with pytest.raises(PlanError, match='use kind="process"') as caught:
        Stage(same, kind=kind, worker_env={"DEVICES": "{index}"})

    assert caught.value.field == "Stage(same).worker_env"


def test_coroutines_have_none() -> None:
    async def ask(item: object) -> object:
        return item

    with pytest.raises(PlanError, match='use kind="process"'):
        Stage(ask, kind="async", worker_env={"DEVICES": "{index}"})


@pytest.mark.parametrize(
    ("declared", "field", "cure"),
    [
        ("DEVICES=0", "Stage(same).worker_env", "a dict of texts"),
        ([], "Stage(same).worker_env", "a dict of texts"),
        (["0", "1"], "Stage(same).worker_env", "a dict for each worker"),
        ({"DEVICES": 0}, "Stage(same).worker_env['DEVICES']", "a text, or a list of texts"),
        ({"DEVICES": []}, "Stage(same).worker_env['DEVICES']", "a text, or a list of texts"),
        ({"DEVICES": ["0", 1]}, "Stage(same).worker_env['DEVICES']", "a text, or a list of texts"),
        ({"DEVICES": "0\0"}, "Stage(same).worker_env['DEVICES']", "a text"),
        ({"DEVICES": "{{ params.device }}"}, "Stage(same).worker_env['DEVICES']", "templates are not rendered"),
        ([{"DEVICES": ["0"]}], "Stage(same).worker_env['DEVICES']", "give a text"),
        ({"A=B": "0"}, "Stage(same).worker_env", "without ="),
        ({"": "0"}, "Stage(same).worker_env", "without ="),
        ({7: "0"}, "Stage(same).worker_env", "without ="),
        ({"AIRFLOW_PARALLEL_FORK_SERVER": "x"}, "Stage(same).worker_env", "belong to the fork server"),
    ],
)
def test_what_is_refused(declared: Any, field: str, cure: str) -> None:
    with pytest.raises(PlanError) as caught:
        Stage(same, kind="process", worker_env=declared)

    assert caught.value.field == field
    assert cure in caught.value.cure


@pytest.mark.parametrize(
    "declared", [{"TOKEN": ["hidden word", 7]}, {"TOKEN": "hidden word\0"}, [{"TOKEN": ["hidden word"]}]]
)
def test_values_are_not_shown(declared: Any) -> None:
    with pytest.raises(PlanError) as caught:
        Stage(same, kind="process", worker_env=declared)

    assert "hidden word" not in str(caught.value)
    assert "hidden word" not in repr(Stage(same, kind="process", worker_env={"TOKEN": "hidden word"}))


@pytest.mark.parametrize(
    ("function", "cure"),
    [
        (lambda index: {}[index], "it failed for worker 0: KeyError"),
        (lambda index: "0", "it must return a dict"),
        (lambda index: {"DEVICES": index}, "give a text"),
    ],
)
def test_a_function_that_fails_is_named(function: Any, cure: str) -> None:
    with pytest.raises(PlanError, match=cure):
        run_pipeline([1], [Stage(look, kind="process", worker_env=function)])


def test_each_process_gets_those_of_its_index(tmp_path: Path) -> None:
    stage = Stage(
        lambda item, _: (get_worker_info().index, os.environ["DEVICES"]),
        kind="process",
        workers=2,
        setup=meet_in(tmp_path, 2),
        worker_env={"DEVICES": ["first", "second"]},
    )

    ran = run_pipeline(range(20), [Stage(same, kind="process", workers=1), stage])

    assert set(ran.rows) <= {(0, "first"), (1, "second")}
    assert arrivals(tmp_path) == [(0, "first"), (1, "second")]
    assert "DEVICES" not in os.environ


@pytest.mark.parametrize("end", ["lifespan", "killed", "fork server killed"])
def test_a_worker_in_place_of_another_gets_the_same(tmp_path: Path, end: str) -> None:
    """After ``worker_lifespan``, its death, and the death of the fork server with all workers."""
    once, begun = Once(str(tmp_path / "killed")), tmp_path / "begun"
    begun.mkdir()

    def begin() -> None:
        begun.joinpath(str(os.getpid())).touch()

    def tell(item: int, _: object) -> tuple[int, str]:
        if end == "lifespan":  # a worker goes on until its successor is ready
            deadline = time.monotonic() + WAIT_SECONDS
            while item == 20 and len([*begun.iterdir()]) < 2:
                assert time.monotonic() < deadline, "no successor came"
                time.sleep(0.002)
        elif item == 5 and once():
            os.kill(os.getppid() if end == "fork server killed" else os.getpid(), signal.SIGKILL)
            time.sleep(WAIT_SECONDS)
        return get_worker_info().index, os.environ["DEVICES"]

    stage = Stage(
        tell,
        kind="process",
        workers=(1, 3),
        setup=begin,
        worker_env={"DEVICES": "gpu{index}"},
        worker_lifespan=2 if end == "lifespan" else None,
        retry=Retry(3, backoff=0),
    )
    ran = run_pipeline(range(40), [stage], chunk_size=4)

    assert ran.error is None
    assert len(ran.rows) == 40
    assert {*ran.rows} <= {(index, f"gpu{index}") for index in range(3)}
    assert len([*begun.iterdir()]) > 1


def test_they_are_set_before_the_function_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries of devices and threads read them once, while they are imported."""
    tmp_path.joinpath("reads_devices.py").write_text(
        "import os\nAT_IMPORT = os.environ.get('DEVICES')\n\n\ndef tell(item):\n    return AT_IMPORT\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("reads_devices")

    ran = run_pipeline(range(3), [Stage(module.tell, kind="process", workers=1, worker_env={"DEVICES": "gpu{index}"})])

    assert module.AT_IMPORT is None
    assert ran.rows == ["gpu0"] * 3


def test_they_come_after_those_of_the_pipeline() -> None:
    stages = [Stage(look, kind="process", workers=1, worker_env={"DEVICES": "mine"})]

    assert run_pipeline([1], stages, worker_env={"DEVICES": "everybody's"}).rows == ["mine"]


def test_a_function_that_cannot_be_imported_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each worker imports it by itself, so the error comes from there."""
    path = tmp_path / "wants_a_device.py"
    path.write_text("def tell(item):\n    return item\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("wants_a_device")
    path.write_text("raise RuntimeError('no device here')\n")
    os.utime(path, (1, 1))

    ran = run_pipeline([1], [Stage(module.tell, kind="process", workers=1, worker_env={"DEVICES": "0"})])

    assert ran.error is not None
    assert "no device here" in str(ran.error)
