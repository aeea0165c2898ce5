"""`python -m tests.conformance.table` prints the conformance table; `--write` puts it into docs/keras.md."""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from trainers.common.tensorflow_import import import_tensorflow

import_tensorflow()

from tests.conformance import catalogue, checks  # noqa: E402

PAGE = checks.ROOT / "docs" / "keras.md"
BEGIN, END = "<!-- conformance table -->", "<!-- end of the conformance table -->"


def outcome(column, row):
    """A check mark, the reason of a hole, or what failed."""
    try:
        hole = column(row)
    except Exception as error:
        print(f"{row.name}, {column.name}: {type(error).__name__}: {error}")
        return "fails"
    return "✓" if hole is None else hole.reason


def markdown(outcomes):
    """The table, of `outcomes[row][column]`; reasons become numbered notes below it."""
    notes: dict[str, int] = {}
    lines = [["", *(column.name for column in checks.COLUMNS)], ["---", *[":-:"] * len(checks.COLUMNS)]]
    for name, cells in outcomes.items():
        marks = [cell if cell in ("✓", "fails") else f"{notes.setdefault(cell, len(notes) + 1)}" for cell in cells]
        lines.append([f"`{name}`", *marks])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return table + "\n\n" + "\n".join(f"{number}. {reason}" for reason, number in notes.items())


def written():
    """The table as it stands in the docs: its lines, each a list of cells."""
    lines = PAGE.read_text().partition(BEGIN)[2].partition(END)[0].splitlines()
    return [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]


def write(table):
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into docs/keras.md")
    arguments = parser.parse_args()
    table = markdown({row.name: [outcome(column, row) for column in checks.COLUMNS] for row in catalogue.ROWS})
    print(table)
    if arguments.write:
        write(table)


if __name__ == "__main__":
    main()
