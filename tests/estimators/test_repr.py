"""How an estimator shows itself."""

import keras

import rebar_tf as rt


def test_an_estimator_says_its_options():
    text = repr(rt.estimators.Rebar(temperature=0.1, learn_temperature=False))
    assert text.startswith("Rebar(temperature=0.1, learn_temperature=False, relaxation='eq7',")
    assert repr(rt.estimators.Nvil()) == "Nvil()"


def test_every_estimator_is_made_anew_by_what_it_says():
    for name in rt.estimators.names():
        estimator = rt.estimators.get(name)
        assert eval(repr(estimator), {type(estimator).__name__: type(estimator)}).get_config() == estimator.get_config()


def test_one_without_a_configuration_says_its_class():
    class Own(rt.estimators.Estimator):
        estimator_name = "own"

        def __init__(self, part, **kwargs):
            super().__init__(**kwargs)
            self.part = part

    assert "Own" in repr(Own(print))


def test_a_notebook_shows_what_it_has_learned():
    x = keras.Input((4,))
    b = rt.layers.StochasticBinary(rt.estimators.Rebar(temperature=0.25))(keras.layers.Dense(3)(x))
    model = rt.StochasticModel(x, keras.layers.Dense(4)(b))
    model.compile(rt.optimizers.Adam(), loss="mse")
    assert "<td>temperature</td><td>0.25</td>" in model.estimator._repr_html_()
    assert "<td>evaluations of the objective</td><td>1 + n</td>" in model.estimator._repr_html_()
