# SPDX-License-Identifier: Apache-2.0
"""All errors of the package.

::

    ParallelError
    ├── PlanError (ValueError)         the pipeline as declared cannot run; known before anything starts
    │   └── NotPicklable               a function or a global it uses cannot travel to a worker process
    ├── RunFailed                      a run ended without success; ``.report`` is its report
    │   ├── ToleranceExceeded          more failed than ``tolerance`` allows
    │   ├── SourceFailed               the source raised
    │   ├── SinkFailed                 the sink raised, or a chunk could not be committed
    │   ├── SetupFailed                a stage's ``setup`` kept failing, or did not end in time
    │   ├── WorkersExhausted           a stage lost more workers than it may replace
    │   ├── ShardFailed                a shard on an executor has failed in all of its tries
    │   │   └── HopelessShard (terminal)   in a way that no other try can cure
    │   ├── WrongReturn                a stage's function returned what a stage may not return
    │   └── RunStopped                 the run was asked to stop; ``.reason`` says why
    │       └── BudgetSpent            a stage has spent its ``budget``
    ├── ItemError                      why one item failed; a run counts these, it does not raise them
    │   ├── ItemTimeout                one call took longer than the stage's ``timeout``
    │   └── WorkerLost                 the worker died without answering (exit code or signal is kept)
    ├── SourceError                    the database, server or files of a source cannot be read
    └── SinkError
        ├── LoadMismatch (terminal)    this load began with another chunk size or source
        ├── SchemaMismatch (terminal)  the rows do not fit the table
        │   └── WriteRefused           the table takes no rows at all, or loses some: no value is to blame
        ├── RowsRejected (terminal)    more rows were rejected than the load may have
        └── UnsafeTable (terminal)     the table cannot take part in a transaction

After a *terminal* error another attempt cannot succeed; after a *transient* one it may. Every error survives pickling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.foreign.shown import shown
from airflow_parallel_provider.foreign.text import clean

if TYPE_CHECKING:
    from airflow_parallel_provider.report import RunReport


class TerminalError(Exception):
    """Mixin: another attempt cannot succeed. ``Retry`` never repeats a call that raised one."""


class TransientError(Exception):
    """Mixin: the same call may succeed later."""


class ParallelError(Exception):
    """Root of all errors of this package."""


class PlanError(ParallelError, ValueError):
    """The pipeline as declared cannot run.

    :param field: the argument that is wrong, as the author wrote it (``Stage.batch_size``).
    :param value: what was given.
    :param cure: what to write instead, one sentence.
    """

    def __init__(self, field: str, value: object, cure: str) -> None:
        super().__init__(field, value, cure)
        self.field = field
        self.value = value
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.field}={_value_text(self.value, 120)}: {self.cure}"

    def __reduce__(self) -> tuple[Any, ...]:
        # The value may be what cannot be pickled: its text is enough on the other side.
        return type(self)._restore, (self.field, _value_text(self.value, 1000), self.cure)

    @classmethod
    def _restore(cls, field: str, value_text: str, cure: str) -> PlanError:
        return cls(field, _Shown(value_text), cure)


def _value_text(value: object, limit: int) -> str:
    return clean(str(value), limit) if type(value) is _Shown else shown(value, limit)


class _Shown(str):
    """Text that stands for a value and is shown without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class NotPicklable(PlanError):
    """A stage's function, or a global it uses, cannot travel to a worker process."""


class RunFailed(ParallelError):
    """A run ended without success.

    :param message: one sentence, then the causes with their counts.
    :param report: of the run; None only where the run failed before it started.
    """

    def __init__(self, message: str, report: RunReport | None = None) -> None:
        super().__init__(message, report)
        self.message = message
        self.report = report

    def __str__(self) -> str:
        return self.message


class ToleranceExceeded(RunFailed, TerminalError):
    """More failed than ``tolerance`` allows."""


class SourceFailed(RunFailed):
    """The source raised; ``__cause__`` is its error."""


class SinkFailed(RunFailed):
    """A chunk could not be committed; ``__cause__`` is the sink's error."""


class SetupFailed(RunFailed):
    """A stage's ``setup`` kept failing, or did not end in time."""


class WorkersExhausted(RunFailed):
    """A stage lost more workers than it may replace."""


class WrongReturn(RunFailed, TerminalError):
    """A stage's function returned what a stage may not return (``None`` for a batch, an un-awaited coroutine)."""


class ShardFailed(RunFailed):
    """A shard that an executor should have done has failed in all of its tries."""


class HopelessShard(ShardFailed, TerminalError):
    """A shard has failed in a way that no other try can cure."""


class RunStopped(RunFailed):
    """The run was asked to stop; ``reason`` says why."""

    def __init__(self, message: str, report: RunReport | None = None, reason: str = "") -> None:
        super().__init__(message, report)
        self.reason = reason
        self.args = (message, report, reason)


class BudgetSpent(RunStopped):
    """A stage has spent its ``budget``. The next try of the load continues, with a budget of its own."""


class RetryAfter(TransientError):
    """Raised by a stage's function: the service asks to be left alone for a while.

    No call of the stage begins before, and this one is made again as its ``Retry`` says. The same holds for any error
    with an attribute ``retry_after``, or with a ``response`` whose headers have ``Retry-After``.

    :param seconds: how long.
    """

    def __init__(self, seconds: float, message: str = "") -> None:
        super().__init__(seconds, message)
        self.retry_after = seconds

    def __str__(self) -> str:
        seconds, message = self.args
        return message or f"the service asks to come back in {seconds} s"


class ItemError(ParallelError):
    """Why one item failed. A run counts these by cause; it does not raise them."""


class ItemTimeout(ItemError, TransientError):
    """One call of a stage's function took longer than the stage's ``timeout``."""


class WorkerLost(ItemError, TransientError):
    """A worker died without answering; the text keeps its exit code or signal."""


class SourceError(ParallelError):
    """The database, server or file of a source cannot be read, or does not answer as it should."""


class SinkError(ParallelError):
    """A problem with the table of a sink or with its ledger."""

    position: int | None = None
    """Of the item in the source whose row is to blame, where that is known."""
    line: int | None = None
    """Of its file that the row is from, where that is known."""


class LoadMismatch(SinkError, TerminalError):
    """This load began with another chunk size or source: its chunks would not be the same chunks."""


class SchemaMismatch(SinkError, TerminalError):
    """The rows do not fit the table: a column is missing, unknown or of the wrong kind."""


class WriteRefused(SchemaMismatch):
    """The table takes no rows, or not all of them, whatever their values: a right is missing, it is a view, it has
    changed, a trigger drops rows. No row is rejected for such a reason, however large the tolerance.
    """


class RowsRejected(SinkError, TerminalError):
    """More rows were rejected, by ``validate`` or by the database, than the load may have."""


class UnsafeTable(SinkError, TerminalError):
    """The table cannot take part in a transaction, so exactly-once cannot be kept."""
