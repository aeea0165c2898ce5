"""The tables of docs/estimators.md: the first says what the registry says, the others are of all its estimators."""

import re

import pytest

import rebar_tf as rt
from benchmarks import estimator_tables as tables
from trainers.common import markdown


@pytest.fixture(scope="module")
def guide():
    return tables.GUIDE.read_text()


def first_column(table):
    return re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE)


def test_the_guide_has_the_registrys_table(guide):
    assert markdown.between_markers(guide, "registry") == tables.registry_table()


def test_the_guide_has_a_measurement_of_every_estimator_and_option(guide):
    assert first_column(markdown.between_markers(guide, "measured")) == rt.estimators.names()
    _, *options = first_column(markdown.between_markers(guide, "options"))
    assert options == [tables.option_label(option) for option in tables.OPTIONS]


def test_the_registrys_table_has_what_the_classes_say():
    (line,) = (line for line in tables.registry_table().splitlines() if line.startswith("| `rodeo` "))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:7] == ["`rodeo`", "model", "yes", "K", "yes", "bernoulli", "scales, network"]
    assert cells[7].startswith("Shi et al. 2022")


def test_a_reference_over_several_lines_is_one_and_none_is_a_dash():
    class Cited:
        """A class.

        Reference: Somebody 2020, "A title that goes on
        here"; Somebody else 2021.

        Another paragraph.
        """

    class Uncited:
        """A class."""

    assert tables.reference(Cited) == 'Somebody 2020, "A title that goes on here"; Somebody else 2021'
    assert tables.reference(Uncited) == "-"


def test_a_table_is_replaced_and_nothing_else():
    text = "before\n\n<!-- begin measured: by a command -->\n\nold\n\n<!-- end measured -->\n\nafter | a\\1 |\n"
    new = markdown.replace_between_markers(text, "measured", "| \\|z\\| |")
    assert new == text.replace("old", "| \\|z\\| |")
    assert markdown.between_markers(new, "measured") == "| \\|z\\| |"


def test_a_measurement_tells_bias_and_variance():
    biased = tables.measure("straight_through", "1 layer", num_estimates=100, control_steps=1)
    unbiased = tables.measure("reinforce", "1 layer", num_estimates=100, control_steps=1)
    assert biased.z > 2 * biased.threshold
    assert unbiased.z < unbiased.threshold
    assert biased.bias > 0.1
    assert unbiased.variance > biased.variance > 0
    assert 0 < unbiased.microseconds < 1e5


@pytest.mark.parametrize("network", ["1 layer", "categorical"])
def test_training_the_control_variables_leaves_the_weights(network):
    model, data = tables.build("nvil", network)
    weights = [variable.numpy() for variable in model.model_variables]
    control = [variable.numpy() for variable in model.control_variables]
    tables.train_control(model, data, 1)
    assert all((before == v.numpy()).all() for before, v in zip(weights, model.model_variables, strict=True))
    assert all((before != v.numpy()).any() for before, v in zip(control, model.control_variables, strict=True))
