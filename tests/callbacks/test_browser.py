"""TensorBoard's pages of a run in a real browser, where there is one."""

import re
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

import rebar_tf as rt

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NEEDS_BROWSER = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed: apt-get install chromium")


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """The address of TensorBoard, which shows a short run."""
    log_dir = tmp_path_factory.mktemp("run")
    x = keras.Input((4,))
    b = rt.layers.StochasticBinary("rebar", name="units")(keras.layers.Dense(3, name="code")(x))
    model = rt.StochasticModel(x, keras.layers.Dense(4)(b))
    model.compile(rt.optimizers.Adam(1e-2), loss="mse")
    data = np.eye(4, dtype=np.float32)
    callback = rt.callbacks.TensorBoard(log_dir, x=data, settings={"estimator": "rebar"})
    model.fit(
        data, data, epochs=5, batch_size=2, verbose=0, callbacks=[rt.callbacks.ValidationBound(data, data), callback]
    )
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", log_dir, "--port", "0", "--load_fast=false"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        yield next(found[0] for line in process.stderr if (found := re.findall(r"http://\S+/", line)))
        process.kill()


def page(url, *options):
    """What chromium writes of a page, some virtual seconds after it began to load."""
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=30000"]
    ended = subprocess.run([*command, *options, url], check=True, capture_output=True, text=True, timeout=300)
    return ended.stdout


@NEEDS_BROWSER
@pytest.mark.slow
def test_the_first_page_has_the_groups_of_curves(url):
    text = page(f"{url}#timeseries", "--dump-dom", "--window-size=1400,2000")
    for group in ("bound", "variance", "temperature", "eta", "etas", "logits"):
        assert f">{group}</span" in text
    assert "bound/train" in text


@NEEDS_BROWSER
@pytest.mark.slow
def test_a_screenshot_is_no_empty_page(url, tmp_path):
    picture = tmp_path / "page.png"
    page(f"{url}#timeseries", f"--screenshot={picture}", "--window-size=1400,900")
    pixels = keras.utils.img_to_array(keras.utils.load_img(picture))
    assert pixels.shape[:2] == (900, 1400)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50
