"""The live display of `%%minimize` in JupyterLab and Notebook, with real clicks.

Each test is one sitting at one notebook, since starting TensorFlow takes longer than all of its steps.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.support.jupyter import Page, Server, exported

LONG = "--over x --optimizer sgd --lr 1e-4 --steps 1_000_000 --engine eager"
STEP = "time.sleep(0.001); "
"""With it, a run lasts a quarter of an hour on the fastest machine, and its bar moves on the slowest."""
CELLS = [
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "%load_ext tape_magic\nimport time, tensorflow as tf\nx, n = tf.Variable(1.0, dtype=tf.float64), 0\n"
    "from tape_magic.engine.minimization import control; control.PAUSE_SECONDS = 0.5",
    f"%%minimize y {LONG}\n{STEP}y = x**2",
    "n += 1; print('behind', n, minimum.reason.name)",
    "%%minimize y --over x --optimizer adam --steps 20\ny = x**2",
    f"%%minimize z {LONG}\n{STEP}z = x**2",
    "print('never')",
]
MISSING = "model not found"


NOTES_THE_PAUSE = """output => {
    window.noted = [output.innerText];
    const note = () => { if (output.innerText.includes('Resume')) noted.push(output.innerText) };
    new MutationObserver(note).observe(output, {subtree: true, childList: true, characterData: true});
}"""
"""Keeps what the display says while it shows Resume: for half a second at least, as the first cell sets."""


def step(page: Page, cell: int) -> int:
    """The step that the display shows."""
    shown = re.search(r"step ([\d,]+) of", page.text(cell))
    return int(shown[1].replace(",", "")) if shown else 0


def width(page: Page, cell: int) -> str:
    """How far the bar reaches."""
    bar = page.output(cell).get_by_role("progressbar", name="steps done")
    return str(bar.locator("div").get_attribute("style"))


def start_cell(page: Page, cell: int) -> None:
    page.run(cell)
    page.until(lambda: page.button(cell, "Stop").count(), f"Stop below cell {cell}")


def the_bar_moves_pause_freezes_it_and_resume_goes_on(page: Page, cell: int) -> None:
    first, bar = step(page, cell), width(page, cell)
    page.until(lambda: step(page, cell) > first, "a later step")
    page.until(lambda: width(page, cell) != bar, "a longer bar")
    page.button(cell, "Pause").click()
    page.button(cell, "Resume").wait_for()
    page.says(cell, "paused")
    frozen = step(page, cell)
    page.output(cell).first.evaluate(NOTES_THE_PAUSE)
    page.button(cell, "Resume").click()
    page.button(cell, "Pause").wait_for()
    noted = page.page.evaluate("noted.map(text => text.match(/step ([\\d,]+) of/)[1])")
    assert {int(number.replace(",", "")) for number in noted} == {frozen}
    page.until(lambda: step(page, cell) > frozen, "a step after the pause")


def the_keyboard_does_the_same(page: Page, cell: int) -> None:
    """Tab leads from Pause to Stop; the space bar presses."""
    page.button(cell, "Pause").focus()
    page.page.keyboard.press("Space")
    page.button(cell, "Resume").wait_for()
    page.page.keyboard.press("Space")
    page.button(cell, "Pause").wait_for()
    page.page.keyboard.press("Tab")
    focused = page.page.evaluate("document.activeElement.textContent")
    assert focused == "Stop"


def a_narrow_window_shows_all_of_the_curve(page: Page, cell: int) -> None:
    """Nothing is scrolled, and no label of an axis touches the next."""
    before = page.page.viewport_size
    page.page.set_viewport_size({"width": 320, "height": 800})
    written = page.output(cell).locator(".mathjax_ignore").first
    sizes = """box => {
        if (!box.isConnected) return null;  // just being replaced
        const picture = box.querySelector('img, svg[role="img"]').getBoundingClientRect();
        return [box.scrollWidth - box.clientWidth, picture.right - box.getBoundingClientRect().right,
                picture.width, picture.height];
    }"""

    def narrow() -> Any:
        found = written.evaluate(sizes)
        return found if found and 0 < found[2] < 300 else None

    over, beyond, _, height = page.until(narrow, "a narrow curve")
    assert (over, height) == (0, 160)
    assert beyond <= 0
    look = """box => box.isConnected && {all: [...box.querySelectorAll('svg text')]
        .map(text => text.getBoundingClientRect())
        .filter(place => place.width).map(place => [place.left, place.top, place.right])}"""
    labels = page.until(lambda: written.evaluate(look), "the labels")["all"]
    for one in labels:
        beside = [other for other in labels if other[0] > one[0] and abs(other[1] - one[1]) < 4]
        assert all(other[0] > one[2] for other in beside), labels
    page.page.set_viewport_size(before)


def type_of(page: Page, cell: int) -> list[Any]:
    """Where the text below a cell begins, and how large it is."""
    look = "box => box.isConnected && [box.getBoundingClientRect().left, getComputedStyle(box).fontSize]"
    text = page.output(cell).locator(".mathjax_ignore").first
    return list(page.until(lambda: text.evaluate(look), "text that is not just being replaced"))


def stop_ends_the_cell_with_the_report_in_place(page: Page, cell: int) -> None:
    page.button(cell, "Stop").click()
    page.done(cell)
    page.says(cell, "stopped ·")
    picture = page.output(cell).locator("img").first
    page.until(lambda: picture.evaluate("image => image.naturalWidth") > 0, "the picture")
    assert page.output(cell).locator("button").count() == 0
    assert page.output(cell).get_by_role("progressbar").count() == 0


def the_square_button_shows_the_report_and_then_the_interrupt(page: Page, cell: int) -> None:
    start_cell(page, cell)
    page.cell(cell + 1).locator(".cm-content").click()
    page.page.keyboard.press("Shift+Enter")  # queued
    interrupt = "[data-command='notebook:interrupt-kernel'], [title^='Interrupt the kernel']"
    page.page.locator(interrupt).first.click()
    page.says(cell, "KeyboardInterrupt")
    text = page.text(cell)
    assert text.index("interrupted ·") < text.index("KeyboardInterrupt")
    assert page.output(cell).locator("button").count() == 0
    page.until(lambda: "*" not in page.prompt(cell + 1), "the end of what was queued")
    assert "never" not in page.text(cell + 1)


def the_report_is_shown(page: Page, cell: int) -> None:
    """The report stands below the cell, with its picture, and no widget is missed."""
    page.says(cell, "stopped ·")
    page.until(
        lambda: page.output(cell).locator("img").first.evaluate("image => image.naturalWidth") > 0,
        "the picture",
    )
    assert MISSING not in page.page.locator("body").inner_text()
    assert "Loading widget" not in page.page.locator("body").inner_text()


def the_export_shows_it(browser: Any, path: Path) -> None:
    """As HTML, with no network."""
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto(exported(path).as_uri())
    images = page.locator(".jp-OutputArea img")
    assert images.count() >= 2
    assert images.first.evaluate("image => image.naturalWidth") > 0
    body = page.locator("body").inner_text().replace("\xa0", " ")
    assert "stopped ·" in body
    assert MISSING not in body
    assert "VBox" not in body
    context.close()


def test_in_jupyterlab(server: Server, browser: Any) -> None:
    path = server.write("lab.ipynb", CELLS)
    page = Page(browser, server.address(path.name))
    page.run(0)
    page.done(0)
    start_cell(page, 1)
    the_bar_moves_pause_freezes_it_and_resume_goes_on(page, 1)
    the_keyboard_does_the_same(page, 1)
    page.run(2)  # queued behind
    stop_ends_the_cell_with_the_report_in_place(page, 1)
    page.says(2, "behind 1 STOPPED")
    page.run(3)
    page.done(3)
    page.says(3, "at step 20")
    the_square_button_shows_the_report_and_then_the_interrupt(page, 4)
    page.save(path)
    page.close()

    server.end_kernels()
    saved = path.read_text(encoding="utf-8")
    assert "widget-view" not in saved
    assert "\\r" not in saved.replace("\\right", "")
    page = Page(browser, server.address(path.name))
    the_report_is_shown(page, 1)
    page.close()
    server.end_kernels()

    import nbformat

    notebook = nbformat.read(path, 4)
    notebook.cells.append(nbformat.v4.new_code_cell("1"))  # so that nobody has signed it
    untrusted = path.with_name("untrusted.ipynb")
    nbformat.write(notebook, untrusted)
    page = Page(browser, server.address(untrusted.name))
    the_report_is_shown(page, 1)
    page.close()
    server.end_kernels()
    the_export_shows_it(browser, path)


def test_in_notebook(server: Server, browser: Any) -> None:
    path = server.write("notebook.ipynb", CELLS)
    page = Page(browser, server.address(path.name, lab=False))
    page.run(0)
    page.done(0)
    start_cell(page, 1)
    the_bar_moves_pause_freezes_it_and_resume_goes_on(page, 1)
    a_narrow_window_shows_all_of_the_curve(page, 1)
    running = type_of(page, 1)
    page.run(2)
    stop_ends_the_cell_with_the_report_in_place(page, 1)
    page.says(2, "behind 1 STOPPED")
    assert type_of(page, 1) == running
    a_narrow_window_shows_all_of_the_curve(page, 1)
    the_square_button_shows_the_report_and_then_the_interrupt(page, 4)
    page.close()
