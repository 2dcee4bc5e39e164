"""``run``: report, exit codes, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_parallel_provider import ListSink
from airflow_parallel_provider.cli.main import main
from tests.cli import pipelines
from tests.support.interpreters import fresh_interpreter, heavy_among

HERE = "tests.cli.pipelines"
ROOT = Path(__file__).parents[2]


def test_it_prints_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["run", f"{HERE}:make"])

    out, err = capsys.readouterr()
    assert code == 0
    assert out.startswith("Pipeline made: success in ")
    assert "50 items, 50 rows" in out
    assert "50 items" in err  # at least one line of progress
    assert "same queue 0/" in err


def test_it_uses_the_sink_of_the_pipeline(capsys: pytest.CaptureFixture[str]) -> None:
    sink = pipelines.pipeline.sink
    assert isinstance(sink, ListSink)
    sink.rows.clear()

    assert main(["run", HERE, "--quiet"]) == 0

    assert sorted(sink.rows) == list(range(20))
    assert capsys.readouterr().err == ""


def test_without_a_sink_rows_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", f"{HERE}:no_sink", "--json", "--quiet"]) == 0

    report = json.loads(capsys.readouterr().out)
    assert (report["state"], report["rows_committed"]) == ("success", 20)
    assert pipelines.no_sink.sink is None


def test_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["run", f"{HERE}:failing", "--json"])

    out, err = capsys.readouterr()
    assert code == 1
    assert json.loads(out)["state"] == "failed"
    assert "ToleranceExceeded: 1 of 20 items failed" in err
    assert "three is bad" in err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["run", "no_such_module:x"], "error: there is no module 'no_such_module'"),
        (["run", f"{HERE}:make_wrong"], "workers=0"),
        (["run"], "the following arguments are required: target"),
        ([], "required: command"),
        (["loadtest", HERE, "--items", "0"], "give a whole number from 1"),
        (["loadtest", HERE, "--seconds", "-1"], "give a number above 0"),
        (["loadtest", HERE, "--inject", "fire"], "give each of error, kill, stall once at most"),
        (["loadtest", f"{HERE}:threads_only", "--inject", "kill"], "needs a stage of kind process"),
        (["loadtest", f"{HERE}:no_sink", "--real-sink"], "the pipeline has no sink"),
    ],
)
def test_wrong_usage(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(arguments)
    except SystemExit as left:  # argparse's way
        code = int(str(left.code))

    out, err = capsys.readouterr()
    assert code == 2
    assert text in err
    assert out == ""


def test_ctrl_c_stops_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)

    code = main(["run", f"{HERE}:interrupted"])

    out, err = capsys.readouterr()
    assert code == 130
    assert "RunStopped: stopped: Ctrl-C" in err
    assert out.startswith("Pipeline: stopped in ")
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_before_anything_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def slow() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipelines, "make", slow)

    assert main(["run", f"{HERE}:make"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_as_a_program_in_a_file_with_processes(tmp_path: Path) -> None:
    """The whole way: ``__main__``, a file, worker processes, SIGTERM to the whole group as a shell sends it."""
    path = tmp_path / "job.py"
    path.write_text(
        "import time\n"
        "from airflow_parallel_provider import Pipeline, Stage\n"
        "OFFSET = 1\n"
        "def work(item):\n    time.sleep(0.001)\n    return item + OFFSET\n"
        "def endless():\n    return iter(int, 1)\n"
        "short = Pipeline(range(30), [Stage(work, kind='process', workers=2)])\n"
        "long = Pipeline(endless, [Stage(work, kind='process', workers=2)], chunk_size=10)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "airflow_parallel_provider", "run"]

    done = subprocess.run(
        [*command, "job.py:short", "--json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    with subprocess.Popen(
        [*command, f"{path}:long"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        assert running.stderr is not None
        first_line = running.stderr.readline()  # the run is on its way
        os.killpg(running.pid, signal.SIGTERM)
        out, err = running.communicate(timeout=170)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows_committed"] == 30
    assert "work queue" in first_line
    assert running.returncode == 143, err
    assert "stopped: SIGTERM" in err
    assert out.startswith("Pipeline: stopped")


@pytest.mark.parametrize("command", ["'run'", "'loadtest', '--items', '100', '--inject', 'error'"])
def test_no_airflow_is_imported(command: str) -> None:
    modules = fresh_interpreter(
        "from airflow_parallel_provider.cli.main import main\n"
        f"code = main([{command}, '{HERE}:make', '--quiet', '--json'])\n"
        "assert code == 0, code\n"
    )

    assert heavy_among(modules) & {"airflow", "sqlalchemy", "pandas", "numpy", "pyarrow", "fastapi"} == set()
