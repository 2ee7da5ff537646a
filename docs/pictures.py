"""Makes the pictures of cells in the README and on the site: real cells in a real JupyterLab, light and dark.

    python -m docs.pictures [NAME ...]

Needs the extra test, Chromium and Pillow. The machines with GPUs are made up.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.support.jupyter import Page, Server, chromium

FOLDER = Path(__file__).parents[1] / "examples" / "pictures"
THEMES = {"": "JupyterLab Light", "-dark": "JupyterLab Dark"}
SCALE = 1.5


@dataclass(frozen=True)
class Scene:
    """A picture: the cells before it, and the cell that it shows, or only the output of that."""

    before: str
    cell: str
    bare: bool = False


LOAD = "%load_ext tape_magic\nimport numpy as np\nimport tensorflow as tf\n"
NETWORK = """keras = tf.keras
keras.utils.set_random_seed(1)
h = start = keras.Input((32,))
for n in range(4):
    h = h + 0.1 * keras.layers.Dense(32, activation="relu", name=f"block_{n}")(h)
model = keras.Model(start, keras.layers.Dense(1, name="output")(h))
inputs = tf.random.normal([64, 32])
"""
DOCTOR = """from tape_magic.results.doctor import DoctorReport, Examined, Link, LinkState
ok, missing, untried = LinkState.OK, LinkState.MISSING, LinkState.UNTRIED
found = ["cudart.so.12", "cublas.so.12", "cublasLt.so.12", "cufft.so.11", "cusolver.so.11", "cusparse.so.12"]
parts = [(f"lib{name}", ok, f"/tmp/cuda/lib/lib{name}") for name in found]
parts += [("libcudnn.so.9", missing, "cannot open shared object file: No such file or directory")]
driver = "/tmp/cuda/lib/libcuda.so.1", "version 580.159.03", "for CUDA up to 12.8"
links = (
    Examined(Link.WHEEL, ok, ("CUDA 12.5.1", "cuDNN 9")),
    Examined(Link.DRIVER, ok, driver),
    Examined(Link.FILES, ok, ("/dev/nvidiactl, /dev/nvidia-uvm, /dev/nvidia0",)),
    Examined(Link.LIBRARIES, missing, ("6 of 7 found",), tuple(parts)),
    *(Examined(link, untried) for link in (Link.VISIBLE, Link.SETTINGS, Link.COMPUTATION)),
)
cause, advice = "libcudnn.so.9 is missing", "Run, then restart the kernel"
command = '%pip install "nvidia-cudnn-cu12<10.0,>=9.3.0.75"'
"""
"""A machine that is not there, as the doctor would see it."""
DEVICES = """from tape_magic.results.devices import Device, DeviceReport, Holder
from tape_magic.results.devices import Policy, PolicyKind, SetupOutcome
H200 = {"product": "NVIDIA H200", "compute_capability": (9, 0), "memory_total": int(139.8 * 2**30)}
giga = lambda number: int(number * 2**30)
here, other = Holder(77, giga(44), here=True), Holder(4121, giga(86), "python", "train-big.ipynb")
used = {"memory_used": giga(43.4), "memory_peak": giga(50.1), "memory_all": giga(50.4), "load": 0.87}
first = Device("GPU", 0, ("GPU:0",), **H200, **used, policy=Policy(PolicyKind.GROWTH), visible=True, card=3,
               temperature=54, holders=(here, Holder(4200, giga(6.4), "python")))
second = Device("GPU", 1, (), **H200, memory_used=None, memory_peak=None, memory_all=giga(86.7), load=1.0,
                policy=Policy(PolicyKind.HIDDEN), visible=False, card=1, temperature=71, holders=(other,))
cpu = Device("CPU", 0, ("CPU:0",), "AMD EPYC, 16 cores", None, giga(128), None, None,
             Policy(PolicyKind.HOST), True)
"""
REPORT = """DeviceReport((first, second, cpu), "2.21.0", "12.5.1", "9", True, SetupOutcome.DONE, None, (),
             driver="580.159")"""
WATCH = """from tape_magic.display.live.watch import WatchView
from tape_magic.results.watching import Reading, Sample
giga = lambda number: int(number * 2**30)
total, waves = giga(139.8), [0.5 + 0.5 * np.sin(n / 1.3) for n in range(61)]
def sample(n):
    busy = n > 10
    used = giga(min(1.2 + 2.4 * (n - 10), 58)) if busy else giga(0.4)
    return Sample(float(n), (
        Reading("GPU 0", "NVIDIA H200", used, total, 0.78 + 0.15 * waves[n] if busy else 0.0),
        Reading("GPU 1", "NVIDIA H200", giga(86.7), total, 0.92 + 0.06 * waves[n]),
        Reading("CPU", "AMD EPYC, 16 cores", giga(5 + n / 40), giga(128), 0.3 + 0.1 * waves[n]),
    ))
"""
SPIRALS = """import keras
keras.utils.set_random_seed(0)
r = np.random.default_rng(0)
turn = np.sqrt(r.uniform(size=(2000, 1))) * 9
arm = r.integers(0, 2, 2000)
angle = turn + np.pi * arm[:, None]
points = turn / 5 * np.concatenate([np.cos(angle), np.sin(angle)], 1) + r.normal(scale=0.05, size=(2000, 2))
train = tf.data.Dataset.from_tensor_slices((points.astype("float32"), arm)).shuffle(2000, seed=1).batch(64)
layers = [keras.layers.Dense(48, "tanh", name=f"hidden_{n}") for n in (1, 2, 3)]
model = keras.Sequential([keras.Input((2,)), *layers, keras.layers.Dense(2, name="logits")])
loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
"""
RUN = """%%minimize loss --over model --for "x, y in train" --epochs 2000 --track accuracy
logits = model(x)
loss = loss_fn(y, logits)
accuracy = tf.reduce_mean(keras.metrics.sparse_categorical_accuracy(y, logits))"""

SCENES = {
    "cut": Scene(
        "logits = tf.Variable([1.0, 2.0, 3.0])\nvalues = tf.constant([10.0, 20.0, 30.0])",
        "%%grad reward --wrt logits\nprobabilities = tf.nn.softmax(logits)\n"
        "chosen = tf.argmax(probabilities)\nreward = values[chosen]",
    ),
    "nan": Scene(
        "r = tf.Variable([0.0, 1.0, 2.0])",
        "%%grad total --wrt r\nlogarithm = tf.math.log(r)\n"
        "total = tf.reduce_sum(tf.where(r > 0, logarithm, 0.0))",
    ),
    "grad": Scene(
        "x = tf.Variable(0.0)\na, b, c = tf.constant(1.0), tf.constant(-2.0), tf.constant(1.0)",
        "%%grad dy/dx, dy/da, dy/dc, d2y/dx2\ny = a*x**2 + b*x + c",
    ),
    "model": Scene(NETWORK, "%%grad loss --wrt model\nloss = tf.reduce_mean((model(inputs) - 1.0)**2)"),
    "hessian": Scene(
        "p = tf.Variable([1.0, 1.0])",
        "%%grad y --wrt p --hessian\ny = (1 - p[0])**2 + 100*(p[1] - p[0]**2)**2",
    ),
    "verdict": Scene(
        "import keras\nkeras.utils.set_random_seed(1)\nr = np.random.default_rng(0)\n"
        "X = r.normal(size=(64, 2)).astype('float32')\n"
        "target = (X @ [1.0, -2.0] + 0.1 * r.normal(size=64)).astype('float32')\n"
        "hidden = keras.layers.Dense(16, 'relu', name='hidden')\n"
        "model = keras.Sequential([keras.Input((2,)), hidden, keras.layers.Dense(1, name='output')])",
        "%%minimize loss --over model --steps 200 --lr 0.01\n"
        "predicted = model(X)\nloss = tf.reduce_mean((predicted - target)**2)",
    ),
    "inspect": Scene(
        NETWORK, "%%grad loss --wrt model --inspect\nloss = tf.reduce_mean((model(inputs) - 1.0)**2)"
    ),
    "doctor": Scene(DOCTOR, "DoctorReport(links, cause, advice, command, '2.21.0')", bare=True),
    "tfgpu": Scene("", "%tfgpu 0 --growth"),
    "devices": Scene(DEVICES, REPORT, bare=True),
    "watch": Scene(WATCH, "WatchView(lambda: None).show([sample(n) for n in range(61)])", bare=True),
}

POINTER = """() => {
    const pointer = document.createElement('div');
    pointer.innerHTML = '<svg width="22" height="30" viewBox="0 0 22 30" stroke="white" stroke-width="1.5">' +
        '<path d="M2 2 L2 24 L8 19 L12 28 L16 26 L12 17 L20 17 Z" fill="black"/></svg>';
    pointer.style.cssText = 'position:fixed;z-index:9999;pointer-events:none;left:620px;top:330px';
    document.body.append(pointer);
    document.addEventListener('mousemove', e => {
        pointer.style.left = e.clientX + 'px'; pointer.style.top = e.clientY + 'px';
    }, true);
}"""
"""A screenshot has no pointer; this one follows the mouse."""


@contextmanager
def lab(theme: str) -> Iterator[tuple[Server, Any]]:
    """A server of JupyterLab with a theme, and a browser."""
    arguments = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server = Server(Path(folder))
        file = Path(folder) / "settings/@jupyterlab/apputils-extension/themes.jupyterlab-settings"
        file.write_text(json.dumps({"theme": theme}), encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=chromium(), args=arguments)
        try:
            yield server, browser
        finally:
            browser.close()
            server.close()


def opened(server: Server, browser: Any, name: str, before: str, cell: str) -> Page:
    """A notebook whose first cell has run."""
    server.write(f"{name}.ipynb", [LOAD + before, cell])
    page = Page(
        browser,
        server.address(f"{name}.ipynb") + "&reset",
        device_scale_factor=SCALE,
        viewport={"width": 900, "height": 1000},
    )
    # The notebook alone, without the file browser and what shows where the keyboard is.
    page.page.keyboard.press("Control+b")
    page.page.add_style_tag(
        content=".jp-Cell .jp-Collapser, .jp-cell-toolbar, .jp-Toolbar-micro, .jp-cell-menu "
        "{display: none !important}"
    )
    page.run(0)
    page.done(0)
    shown = ".jp-Notebook .jp-Cell:not([data-windowed-list-index='1']) {display: none !important}"
    page.page.add_style_tag(content=shown)
    return page


def small(image: Image.Image, colours: int) -> Image.Image:
    """The image with a palette of few colours."""
    return image.convert("RGB").quantize(colours, dither=Image.Dither.NONE)


def save(page: Page, path: Path, bare: bool = False) -> None:
    """Take the picture of the cell as it is, or of its output, in as many colours as fit into 58 kB."""
    assert "Traceback" not in page.text(1), page.text(1)
    area = page.output(1).locator(".jp-OutputArea-output").first if bare else page.cell(1)
    image = Image.open(io.BytesIO(page.page.screenshot(clip=area.bounding_box())))
    for colours in (128, 64, 32, 16):
        small(image, colours).save(path, optimize=True)
        if path.stat().st_size < 58_000:
            break


def still(page: Page, path: Path, bare: bool) -> None:
    """Run the cell, and take its picture."""
    page.run(1)
    page.done(1)
    page.page.mouse.move(5, 5)
    page.page.wait_for_timeout(500)
    save(page, path, bare)


def moving(page: Page, path: Path) -> None:
    """Run the cell, click Stop after a while, and take frames, and a picture of the run and of its end."""
    ending = path.stem.removeprefix("stop")
    height = 470.0
    frames: list[Image.Image] = []
    durations: list[int] = []

    def take(milliseconds: int) -> None:
        clip = {**page.cell(1).bounding_box(), "height": height}
        image = Image.open(io.BytesIO(page.page.screenshot(clip=clip))).convert("RGB")
        frames.append(image.resize((840, round(image.height * 840 / image.width)), Image.Resampling.LANCZOS))
        durations.append(milliseconds)

    page.page.evaluate(POINTER)
    page.page.mouse.move(620, 330)
    take(1200)
    page.run(1)
    page.until(lambda: page.button(1, "Stop").count(), "the panel")
    page.page.mouse.move(620, 330)
    for _ in range(22):
        take(160)
        page.page.wait_for_timeout(250)
    page.page.mouse.move(5, 5)
    save(page, FOLDER / f"running{ending}.png")
    page.page.mouse.move(620, 330)
    stop = page.button(1, "Stop")
    target = stop.bounding_box()
    x, y = target["x"] + target["width"] / 2, target["y"] + target["height"] / 2
    for step in range(1, 7):
        page.page.mouse.move(620 + (x - 620) * step / 6, 330 + (y - 330) * step / 6)
        take(120)
    page.page.mouse.click(x, y)
    page.done(1)
    page.page.wait_for_timeout(600)
    take(4000)
    page.page.mouse.move(5, 5)
    save(page, FOLDER / f"finished{ending}.png")
    # One palette for all frames, so that what does not change takes no room.
    strip = Image.new("RGB", (840, frames[0].height * 3))
    for place, frame in enumerate((frames[0], frames[len(frames) // 2], frames[-1])):
        strip.paste(frame, (0, place * frame.height))
    palette = small(strip, 64)
    drawn = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    drawn[0].save(
        path, save_all=True, append_images=drawn[1:], duration=durations, loop=0, optimize=True, disposal=1
    )


def main(names: list[str]) -> None:
    """Make the pictures of these names, in both themes."""
    for ending, theme in THEMES.items():
        with lab(theme) as (server, browser):
            for name in names:
                if name == "stop":
                    page = opened(server, browser, name, SPIRALS, RUN)
                    path = FOLDER / f"stop{ending}.gif"
                    moving(page, path)
                else:
                    page = opened(server, browser, name, SCENES[name].before, SCENES[name].cell)
                    path = FOLDER / f"{name}{ending}.png"
                    still(page, path, SCENES[name].bare)
                page.close()
                server.end_kernels()
                print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:] or [*SCENES, "stop"])
