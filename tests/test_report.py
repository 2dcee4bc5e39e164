"""A report as a person reads it: snapshots of made-up ones."""

from __future__ import annotations

from airflow_parallel_provider.report import report_text
from tests.support.made import report, stage

FAILURES = [
    {"stage": "fetch", "cause": "TimeoutError: no answer (api.py:12)", "count": 1200, "sample": {}},
    {"stage": "score", "cause": "ValueError: no such airport (score.py:7)", "count": 34, "sample": {}},
]

FULL = """\
Pipeline flights: success in 66 min 43 s, 100,000 items, 176,000 rows, 2,248 items/s
  items: 88,000 committed, 766 filtered, 1,234 dead-lettered, 10,000 skipped (already committed); 90 chunks committed, 10 skipped
  65.2 s of CPU, 3.0 GiB at most; one worker alone about 7 h 10 min, so 6.4x

  stage                    workers       in    out  failed  retried  busy  starved  blocked         queue     p50     p99
  fetch                    16 thread  1,000  1,000   1,200    3,400   97%       1%      20%      8/10,000  250 ms  250 ms
  score                    2 process  1,000  1,000      34        0   50%      30%      20%  9,000/10,000  800 µs  2.50 s
  a name that…for a table  1 thread       0      0       0        0   50%      30%      20%      8/10,000       -       -

   failed  stage: cause
    1,200  fetch: TimeoutError: no answer (api.py:12)
       34  score: ValueError: no such airport (score.py:7)

bottleneck: fetch. fetch is busy 97% of the time; with workers=32 the run would take about 2001.0 s, then fetch limits
warning: the fork server died and was started again"""  # noqa: E501 - the widest line there can be

SHORT = """\
Pipeline: success in 10.0 s, 1,000 items, 1,000 rows, 100 items/s
  items: 1,000 committed; 1 chunk committed
  1.00 s of CPU, 100 MiB at most; one worker alone about 20.0 s, so 2x

  stage   workers      in    out  failed  retried  busy  starved  blocked     queue    p50    p99
  double  1 thread  1,000  1,000       0        0   50%      30%      20%  8/10,000  10 ms  10 ms"""


def test_a_report_of_a_run_with_everything() -> None:
    made = report(
        stage("fetch", workers=16, failed=1200, retried=3400, ms=250.0, busy_fraction=0.97, starved_fraction=0.01),
        stage("score", kind="process", workers=2, failed=34, ms=0.8, p99_ms=2500.0, queue_peak=9000),
        stage("a name that is much too long for a table", items_in=0, items_out=0, p50_ms=None, p99_ms=None),
        name="flights",
        items_read=100_000,
        items_committed=88_000,
        items_filtered=766,
        items_dead_lettered=1234,
        items_skipped=10_000,
        rows_committed=176_000,
        chunks_committed=90,
        chunks_skipped=10,
        seconds=4003.4,
        items_per_second=2248.01,
        cpu_seconds=65.2,
        peak_rss_bytes=3 << 30,
        estimated_serial_seconds=25_800.0,
        speedup=6.44,
        bottleneck="fetch",
        advice="fetch is busy 97% of the time; with workers=32 the run would take about 2001.0 s, then fetch limits",
        failures=FAILURES,
        warnings=["the fork server died and was started again"],
    )

    assert report_text(made) == str(made) == FULL


def test_a_short_report_leaves_out_what_there_is_not() -> None:
    assert report_text(report(stage("double"))) == SHORT


def test_an_early_end_says_why() -> None:
    text = report_text(
        report(state="failed", items_committed=400, items_unfinished=600, error="stopped: SIGTERM", bottleneck="x")
    )

    assert "400 committed, 600 unfinished; 1 chunk committed" in text
    assert text.splitlines()[-1] == "ended early: stopped: SIGTERM"


def test_many_causes_are_cut_after_ten() -> None:
    causes = [{**FAILURES[0], "count": 100 - number} for number in range(25)]

    lines = report_text(report(failures=causes)).splitlines()

    assert sum("no answer" in line for line in lines) == 10
    assert f"{sum(range(76, 91)):>9,}  in 15 more causes" in lines


def test_report_fits_a_terminal() -> None:
    """Cells once wrapped inside numbers, and a path or a number may be copied from the terminal."""
    path = "/var/lib/some/place/that/is/longer/than/the/terminal/is/wide/and/cannot/be/cut/without/loss.csv"
    failures = [{**FAILURES[0], "cause": f"ValueError: no such airport in {path} (score.py:7)"}]
    stages = stage("a stage of many words, all"), stage("save")
    made = report(*stages, failures=failures, advice="do " * 60, bottleneck="x")

    lines = report_text(made, 80).splitlines()

    assert [line for line in lines if len(line) > 80] == [f"      {path}"]
    assert lines[4:10] == [
        "  stage                    workers      in    out  failed  retried",
        "  a stage of m…words, all  1 thread  1,000  1,000       0        0",
        "  save                     1 thread  1,000  1,000       0        0",
        "",
        "  stage                    busy  starved  blocked     queue    p50    p99",
        "  a stage of m…words, all   50%      30%      20%  8/10,000  10 ms  10 ms",
    ]
    assert " ".join(report_text(made, 60).split()) == " ".join(report_text(made, 80).split())
    assert report_text(made, 120).splitlines()[5] == str(made).splitlines()[5]


def test_no_line_of_the_table_is_longer_than_a_screen() -> None:
    huge = stage("x" * 60, kind="process", workers=64, items_in=10**7, items_out=10**7, failed=10**5, retried=10**5)

    assert max(map(len, report_text(report(huge, huge)).splitlines())) <= 132
