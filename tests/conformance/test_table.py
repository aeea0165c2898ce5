"""The conformance table: everything public, held to what Keras users do with it."""

import pytest

import rebar_tf as rt
from tests.conformance import catalogue, checks, table

CELLS = [
    pytest.param(column, row, id=f"{row.name}, {column.name}", marks=[pytest.mark.slow] * column.is_slow(row))
    for row in catalogue.ROWS
    for column in checks.COLUMNS
    if not column.elsewhere
]


@pytest.mark.parametrize(("column", "row"), CELLS)
def test_cell(column, row):
    hole = column(row)
    if hole is not None:
        pytest.skip(hole.reason)


@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_cells_of_another_process(slow):
    """All in one test, so that there is one other process, however many run the tests."""
    failures = []
    for column in checks.COLUMNS:
        for row in catalogue.ROWS:
            if column.elsewhere and column.is_slow(row) == slow:
                try:
                    column(row)
                except AssertionError as error:
                    failures.append(f"{row.name}, {column.name}: {error}")
    assert not failures, "\n".join(failures)


def test_every_estimator_and_class_has_a_row_or_a_reason_why_not():
    rows = [row.name for row in catalogue.ROWS]
    assert len(set(rows)) == len(rows)
    assert {*rt.estimators.names(), *catalogue.keras_classes()} - {*rows} == {*catalogue.NO_ROW}


def test_the_docs_have_these_rows_and_columns():
    header, _, *lines = table.written()
    assert header[1:] == [column.name for column in checks.COLUMNS]
    assert [line[0] for line in lines] == [row.name for row in catalogue.ROWS]


@pytest.mark.slow
def test_no_weight_is_updated_before_all_passes_of_a_step_have_read_it():
    """In graphs without XLA: where the order was lost, a third of them took another first step."""
    (row,) = [row for row in catalogue.ROWS if row.name == "rebar"]
    expected = checks.step(checks.build(row), row.x, row.y)
    for _ in range(12):
        checks.assert_close(checks.compiled_step(row, checks.build(row))(row.x, row.y), expected)
