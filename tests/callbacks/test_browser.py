"""TensorBoard's pages of a run in a real browser, where there is one."""

import functools
import http.server
import re
import shutil
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest

import rebar_tf as rt

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NEEDS_BROWSER = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed: apt-get install chromium")


RUNS = {  # what differs between them, for the page HParams
    "first": {"estimator": "rebar", "learning_rate": 0.01, "compiled": True},
    "second": {"estimator": "rloo", "learning_rate": 0.002, "compiled": False},
}
FRAME = """<iframe id="page" width="1800" height="900" src="{url}"></iframe><pre id="seen"></pre><script>
const text = node => node.nodeType == Node.TEXT_NODE ? node.data + " "
    : [...(node.shadowRoot ? [node.shadowRoot] : []), ...node.childNodes].map(text).join("");
setInterval(() => {{ seen.textContent = text(page.contentDocument.body); }}, 1000);
</script>"""


def run(log_dir, settings):
    """Trains for a moment, and returns the last bound of the held-out data."""
    keras.utils.set_random_seed(0)
    x = keras.Input((4,))
    b = rt.layers.StochasticBinary(settings["estimator"], name="units")(keras.layers.Dense(3, name="code")(x))
    model = rt.StochasticModel(x, keras.layers.Dense(4, name="decoder")(b))
    model.compile(rt.optimizers.Adam(settings["learning_rate"]), loss="mse", jit_compile=settings["compiled"])
    data = np.eye(4, dtype=np.float32)
    callbacks = [
        rt.callbacks.ValidationBound(data, data),
        rt.callbacks.TensorBoard(log_dir, x=data, settings=settings),
    ]
    history = model.fit(data, data, epochs=5, batch_size=2, verbose=0, callbacks=callbacks).history
    return history["valid_bound"][-1]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """The folder of two short runs, and the last bound of each."""
    log_dir = tmp_path_factory.mktemp("sweep")
    return log_dir, {name: run(log_dir / name, settings) for name, settings in RUNS.items()}


@pytest.fixture(scope="module")
def url(sweep):
    """The address of TensorBoard, which shows the runs."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", sweep[0], "--port", "0", "--load_fast=false"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        yield next(found[0] for line in process.stderr if (found := re.findall(r"http://\S+/", line)))
        process.kill()


def page(url, *options):
    """What chromium writes of a page, some virtual seconds after it began to load."""
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=30000"]
    ended = subprocess.run([*command, *options, url], check=True, capture_output=True, text=True, timeout=300)
    return ended.stdout


def seen_text(url, tmp_path):
    """The text of a page, with that of its shadow trees, which chromium does not write: a page around it reads them."""
    (tmp_path / "frame.html").write_text(FRAME.format(url=url))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://localhost:{server.server_port}/frame.html"
        dom = page(address, "--dump-dom", "--disable-web-security", f"--user-data-dir={tmp_path / 'browser'}")
        server.shutdown()
    return " ".join(re.search('<pre id="seen">(.*?)</pre>', dom, re.DOTALL)[1].split())


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


@NEEDS_BROWSER
@pytest.mark.slow
def test_the_page_hparams_has_the_settings_and_the_last_bound_of_each_run(url, sweep, tmp_path):
    text = seen_text(f"{url}#hparams", tmp_path)
    assert "compiled estimator learning_rate bound/train bound/valid" in text
    for name, settings in RUNS.items():
        compiled, rate = str(settings["compiled"]).lower(), f"{settings['learning_rate']:#.5g}"
        row = rf"{compiled} {settings['estimator']} {rate} \S+ {sweep[1][name]:#.5g} "
        assert re.search(row, text), row


@NEEDS_BROWSER
@pytest.mark.slow
def test_the_page_custom_scalars_draws_bound_and_variance_of_each_run(url, tmp_path):
    text = seen_text(f"{url}#custom_scalars", tmp_path)
    bound, variance = re.search(r"Matches \(4\)(.*) log variance of the gradient .*Matches \(6\)(.*)", text).groups()
    for name in RUNS:
        assert f"bound/train ({name})" in bound
        assert f"bound/valid ({name})" in bound
        assert f"variance/all ({name})" in variance
        assert f"variance/code ({name})" in variance
