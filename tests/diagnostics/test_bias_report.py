"""A report of `check_unbiased` as text, in a notebook, and as a data frame."""

import numpy as np
import pytest

import rebar_tf as rt


@pytest.fixture
def report():
    exact = [np.array([1.0, -2.0]), np.array(4.0)]
    mean = [np.array([1.0, -1.5]), np.array(4.0)]
    error = [np.array([0.1, 0.25]), np.array(0.5)]
    return rt.diagnostics.BiasReport(["code/kernel", "loss"], exact, mean, error, 100, 1e-4, 0.99)


def test_rows_have_z_and_bias_of_each_variable(report):
    kernel, loss = report.rows
    assert kernel == {"variable": "code/kernel", "max_abs_z": pytest.approx(2.0), "bias": 0.25}
    assert loss == {"variable": "loss", "max_abs_z": 0.0, "bias": 0.0}


def test_a_gradient_that_is_no_number_passes_nothing(report):
    mean = [np.array([1.0, -1.5]), np.array([1.0, np.nan]), np.array(4.0)]
    exact, error = [report.exact[0], *report.exact], [report.standard_error[0], *report.standard_error]
    broken = rt.diagnostics.BiasReport(["a", "b", "loss"], exact, mean, error, 100, 1e-4, 0.99)
    assert np.isnan(broken.max_abs_z)
    assert not broken.unbiased


def test_what_can_be_detected_is_of_the_variables_that_have_a_gradient(report):
    exact = [np.zeros(2), *report.exact]
    padded = rt.diagnostics.BiasReport(
        ["dead", *report.names], exact, exact, [np.zeros(2), *report.standard_error], 100, 1e-4, 0.99
    )
    assert padded.detectable == pytest.approx(report.detectable, rel=0.1)


def test_text_notebook_and_data_frame_say_the_same(report):
    assert f"{'code/kernel':<40} {2.0:>8.2f} {0.25:>10.4f}" in str(report)
    assert str(report).endswith(report.verdict)
    assert "<td>code/kernel</td><td>2</td><td>0.25</td>" in report._repr_html_()
    assert report.verdict in report._repr_html_()
    frame = report.to_pandas()
    assert frame.loc["code/kernel", "bias"] == 0.25
    assert list(frame.index) == ["code/kernel", "loss"]
