"""An error that the system's limits have caused says which limit to raise; any other one is left alone."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest

from airflow_parallel_provider.engine.resources import limits
from airflow_parallel_provider.engine.resources.limits import shortage, shortage_in, with_cure


def limited(monkeypatch: pytest.MonkeyPatch, **soft: int) -> None:
    """Pretend that these limits are set, and no others."""
    numbers = {getattr(resource, f"RLIMIT_{name}"): value for name, value in soft.items()}
    found = {number: (numbers.get(number, resource.RLIM_INFINITY), resource.RLIM_INFINITY) for number in range(16)}
    monkeypatch.setattr(resource, "getrlimit", found.__getitem__)
    monkeypatch.setattr(limits, "own_groups", lambda _: [])


def refused(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "no memory left: raise the limit (`ulimit -v`, 400,000 KB)"),
        (refused(errno.ENOMEM), "no memory left: raise the limit (`ulimit -v`, 400,000 KB)"),
        (ImportError("x.so: failed to map segment from shared object"), "no memory left: raise the limit"),
        (refused(errno.EMFILE), "no file descriptor left: raise the limit (`ulimit -n`, 64)"),
        (refused(errno.ENFILE), "raise `fs.file-max`"),
        (refused(errno.EAGAIN), "no further process or thread may be started: raise the limit (`ulimit -u`, 1,000"),
        (RuntimeError("can't start new thread"), "or `ulimit -v`, 400,000 KB), or use fewer workers"),
        (refused(errno.EFBIG), "raise the limit (`ulimit -f`, 512 bytes)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_was_refused_and_what_to_raise(error: BaseException, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limited(monkeypatch, AS=400_000 << 10, NOFILE=64, NPROC=1_000, FSIZE=512)

    assert words in str(shortage(error))


def test_without_a_limit_of_the_process_others_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limited(monkeypatch)
    (tmp_path / "pids.max").write_text("40\n")
    above = tmp_path / "above"
    above.mkdir()
    (above / "pids.max").write_text("max\n")

    assert "memory of the machine or of its control group" in str(shortage(MemoryError()))
    assert "kernel.threads-max" in str(shortage(refused(errno.EAGAIN)))
    monkeypatch.setattr(limits, "own_groups", lambda _: [above, tmp_path, tmp_path / "none"])
    assert "pids.max of the control group, 40)" in str(shortage(refused(errno.EAGAIN)))


def test_the_reason_may_lie_below_the_error() -> None:
    error = RuntimeError("cannot begin")
    error.__cause__ = refused(errno.EMFILE)
    handled = ValueError("while cleaning up")
    handled.__context__ = MemoryError()

    assert "file descriptor" in str(shortage(error))
    assert "memory" in str(shortage(handled))


@pytest.mark.parametrize("error", [ValueError("[Errno 24]"), RuntimeError("no"), refused(errno.ENOENT)])
def test_any_other_error_is_left_alone(error: BaseException) -> None:
    assert shortage(error) is None
    assert with_cure(error) == f"{type(error).__name__}: {error}"


def test_a_socket_that_would_block_is_no_lack_of_processes() -> None:
    """The number of the error is the same."""
    assert with_cure(refused(errno.EAGAIN)) == "BlockingIOError: [Errno 11] Resource temporarily unavailable"
    assert "ulimit -n" in with_cure(refused(errno.EMFILE))


@pytest.mark.parametrize(
    ("last_line", "words"),
    [
        ("MemoryError", "no memory left"),
        ("OSError: [Errno 12] Cannot allocate memory", "no memory left"),
        ("ImportError: x.so: failed to map segment from shared object", "no memory left"),
        ("BlockingIOError: [Errno 11] Resource temporarily unavailable", "no further process"),
        ("RuntimeError: can't start new thread", "no further process"),
        ("ModuleNotFoundError: No module named 'x'", "None"),
        ("OSError: [Errno 2] No such file", "None"),
        ("", "None"),
    ],
)
def test_the_last_line_of_another_process_says_it_too(last_line: str, words: str) -> None:
    assert words in str(shortage_in(f"Traceback\n  File\n{last_line}\n"))
