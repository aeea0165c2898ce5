"""Tables of a run that are damaged, made anew from what the checkpoint holds of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

from rebar_tf.callbacks import ReportTable, Row, copy_beside, set_aside, stands
from trainers.common.errors import one_line, warn
from trainers.run.workdir import Workdir


def mend(workdir: Workdir, tables: Iterable[ReportTable], reached: int, every: int) -> None:
    """Sets tables right that differ from their copies in the checkpoint.

    Args:
        workdir: the folder of the run.
        tables: in it.
        reached: the step that training goes on from.
        every: steps of the reports that are compared; a shorter last one may be gone.
    """
    checkpoint = workdir.last_good()
    for table in tables:
        kept = None if checkpoint is None else copy_beside(checkpoint, table.path.name)
        if kept is not None:
            _mend(table, table.parse(kept), functools.partial(_counts, reached=reached, every=every))


def _counts(row: Row, reached: int, every: int) -> bool:
    return stands(row["step"], reached, every)


def _mend(table: ReportTable, rows: list[Row], counts: Callable[[Row], bool]) -> None:
    """Replaces a table with these rows, unless it has those of them that count."""
    try:
        found = table.parse(table.path.read_bytes())
        if repr([*filter(counts, found)]) == repr([*filter(counts, rows)]):  # NaN is no equal of NaN
            return
        reason = "it has other rows than the checkpoint"
    except (FileNotFoundError, ValueError) as error:
        reason = one_line(error)
    aside = f", and kept as {set_aside(table.path).name}" if table.path.exists() else ""
    warn(f"{table.path} is damaged ({reason}){aside}; it is made anew from the checkpoint")
    table.write(rows)
