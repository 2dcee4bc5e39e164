"""What may be written where a pipeline is asked for, and what is said when it is not one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_parallel_provider.cli.target import TargetError, load_pipeline
from airflow_parallel_provider.testing.inline import run_inline
from tests.cli import pipelines

HERE = "tests.cli.pipelines"
FILE = """
from airflow_parallel_provider import Pipeline, Stage
from {helper} import double
pipeline = Pipeline([1, 2], [Stage(double, kind="process", workers=1)])
"""


@pytest.fixture(autouse=True)
def modules_are_forgotten() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith(("target_", "parallel_target_")):
            del sys.modules[name]


@pytest.mark.parametrize("target", [f"{HERE}:pipeline", HERE, f"{HERE}:Holder.inner"])
def test_a_module(target: str) -> None:
    assert load_pipeline(target) is pipelines.pipeline


def test_a_function_that_returns_one() -> None:
    assert load_pipeline(f"{HERE}:make").name == "made"


@pytest.mark.parametrize("name", ["target_file.py", "target-with-dashes.py", "json.py"])
def test_a_file_may_import_its_neighbors(tmp_path: Path, name: str) -> None:
    (tmp_path / "target_helper.py").write_text("def double(item):\n    return 2 * item\n")
    path = tmp_path / name
    path.write_text(FILE.format(helper="target_helper"))

    pipeline = load_pipeline(f"{path}:pipeline")

    assert run_inline(pipeline).rows == [2, 4]
    assert len(pipeline.check_picklable()) == 1


def test_two_files_of_one_name_are_two_files(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        path = tmp_path / str(number) / "target_twin.py"
        path.write_text(f"from airflow_parallel_provider import Pipeline\npipeline = Pipeline([{number}], [])\n")

    rows = [run_inline(load_pipeline(f"{tmp_path / number / 'target_twin.py'}")).rows for number in "12"]

    assert rows == [[1], [2]]


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("no_such_module:pipeline", "there is no module 'no_such_module'"),
        ("tests.nowhere:pipeline", "there is no module 'tests.nowhere'"),
        ("nowhere/file.py:pipeline", "there is no file 'nowhere/file.py'"),
        (f"{HERE}:", "names no pipeline"),
        (":pipeline", "names no pipeline"),
        (f"{HERE}:pipelin", "has no 'pipelin'; its pipelines: endless, every_kind"),
        (f"{HERE}:not_a_pipeline", "is of type list"),
        (f"{HERE}:Holder", "is the class Holder"),
        (f"{HERE}:make_nothing", "returned of type NoneType, not a Pipeline"),
        (f"{HERE}:make_trouble", r"OSError: no disk \(pipelines.py:\d+\)"),
        (f"{HERE}:make_wrong", r"Stage\(same\).workers=0"),
        (f"{HERE}:same", r"missing 1 required positional argument: 'item'$"),
    ],
)
def test_what_is_no_pipeline(target: str, text: str) -> None:
    with pytest.raises(TargetError, match=text):
        load_pipeline(target)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("import no_such_thing", "target_broken.py cannot be used: ModuleNotFoundError: No module named"),
        ("x = 1\n1 / 0", r"ZeroDivisionError: division by zero \(target_broken.py:2\)"),
        ("def", "SyntaxError"),
    ],
)
@pytest.mark.parametrize("by_name", [False, True])
def test_a_file_that_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, text: str, by_name: bool
) -> None:
    (tmp_path / "target_broken.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(TargetError, match=text.replace("target_broken.py c", "target_broken(.py)? c")):
        load_pipeline("target_broken" if by_name else str(tmp_path / "target_broken.py"))
