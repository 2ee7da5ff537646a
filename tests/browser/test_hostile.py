"""Names and texts that would run, or break the page, in each kind of report and in the widgets.

The reports and steps are made by hand, so that this kernel need not start TensorFlow.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.jupyter import PATIENCE, Page, Server, exported

ROOT = Path(__file__).parents[2]
NAMES = (
    "<script>window.pwned = 1</script>",
    '"\'><img src=x onerror="window.pwned = 2">',
    "</td></tr></table></div></div></div><h1>out</h1>",
    "</style><style>* {color: red; display: none}</style>",
    r"$x^2$ \(y\) $$z$$ \[w\] \begin{equation}q\end{equation} \href{javascript:window.pwned=3}{here} `code`",
    "\u202e\u2066reversed\u2069\u200f\u200b\ufeff zero\x00 \x1b[31m\x07",
    "[a](javascript:window.pwned=4) **b** &lt;img src=x onerror=window.pwned=5&gt;",
    "e" + "\u0301" * 1000,
    "n" * 10_000,
    "path/" * 2_000,
    "line\n" * 2_000,
)
CELLS = [
    f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    "%load_ext tape_magic\n"
    "import numpy as np\nfrom IPython.display import display\n"
    "from tape_magic.display.live.panel import WidgetProgress\n"
    "from tape_magic.results.steps import Step\n"
    "from tests.support.reports import *\n"
    f"NAMES = {NAMES!r}",
    "for name in NAMES:\n    for report in hostile_reports(name):\n        display(report)",
    "gradients(*(derivative('y', name, value=np.eye(3), of_model=True) for name in NAMES)).inspect()",
    "said = {name: np.array([1.0, 2.0]) for name in NAMES}\n"
    "progress = WidgetProgress()\n"
    "losses = np.arange(4), np.geomspace(1, 1e-6, 4)\n"
    "tracked = dict.fromkeys(NAMES, 1.0)\n"
    "progress.update(Step(1, 9, 1.0, 0.5, 2.0, NAMES[0], loss_name=NAMES[8], tracked=tracked,"
    "    read_history=lambda: losses, read_variables=lambda: said))",
    "%tfgpu " + NAMES[1] + NAMES[4] + NAMES[8],
    "from IPython.display import Math\nMath('x')",
]
REPORTS, INSPECTOR, LIVE, REFUSED = 1, 2, 3, 4

FORMULA = "mjx-container, .MathJax"

WHEN_IMAGES_FAIL = """() => new Promise(done => {
    const image = new Image();
    image.onerror = done;
    image.src = 'x';
    document.body.append(image);
})"""
"""Ends when an image that cannot be loaded has said so; by then, those before it have said so, too."""


def harmless(page: Any, *, within: str = ".mathjax_ignore", formulas: bool = True) -> None:
    """Nothing ran, nothing became a formula or a heading, and every output has the width of its place.

    So have the parts that `within` selects. The last output is a formula: where the page has `formulas`,
    all that would become one has become one when that has.
    """
    from playwright.sync_api import expect

    outputs = page.locator(".jp-OutputArea-output")
    outputs.first.wait_for(state="attached")  # a long page hides what is not in sight
    page.evaluate(WHEN_IMAGES_FAIL)
    if formulas:
        outputs.last.locator(FORMULA).first.wait_for(state="attached")
    assert page.evaluate("window.pwned") is None
    # While MathJax works, there are elements that it measures with.
    for place in (page, outputs.last):
        expect(place.locator(FORMULA)).to_have_count(int(formulas), timeout=1000 * PATIENCE)
    assert page.locator("h1:has-text('out')").count() == 0
    boxes = outputs.evaluate_all(
        """(all, parts) => all.map(output => {
        const within = [output, ...(parts ? output.querySelectorAll(parts) : [])];
        const over = Math.max(...within.map(box => box.scrollWidth - box.clientWidth));
        return [output.innerText.slice(0, 50), output.offsetHeight, over];
    })""",
        within,
    )
    assert [box for box in boxes if box[1] > 3500 or box[2] > 0] == []


def the_widgets(page: Page) -> None:
    """The list and the page of the inspector, one derivative after the other; the display of a run."""
    page.button(INSPECTOR, "Close").wait_for()
    for _ in NAMES:
        page.button(INSPECTOR, "Next").click()
    page.says(INSPECTOR, f"{len(NAMES)} of {len(NAMES)}")
    said = page.text(LIVE)
    assert NAMES[0] in said
    assert "nnn…nnn" in said
    assert "n" * 100 not in said


def what_is_written_fits_a_narrow_page(page: Page) -> None:
    """The display of a run is as wide as its place: the curve shrinks, and the rest wraps."""
    page.page.set_viewport_size({"width": 700, "height": 900})
    within = page.output(LIVE).locator(".mathjax_ignore")
    sizes = "box => [box.scrollWidth, box.closest('.jp-OutputArea-output').clientWidth]"
    page.until(lambda: within.evaluate(sizes)[1] < 400, "a narrow page")
    assert within.evaluate(sizes)[0] <= within.evaluate(sizes)[1]


def test_nothing_runs_and_nothing_breaks_the_page(server: Server, browser: Any) -> None:
    path = server.write("hostile.ipynb", CELLS)
    page = Page(browser, server.address(path.name))
    for cell, _ in enumerate(CELLS):
        page.run(cell)
        page.done(cell)
    page.says(REFUSED, "UsageError")
    the_widgets(page)
    harmless(page.page)
    what_is_written_fits_a_narrow_page(page)
    page.button(INSPECTOR, "Close").click()
    page.until(lambda: not page.button(INSPECTOR, "Close").count(), "the end of the browser")
    page.save(path)
    page.close()
    server.end_kernels()

    import nbformat

    notebook = nbformat.read(path, 4)
    notebook.cells.append(nbformat.v4.new_code_cell("1"))  # so that nobody has signed it
    untrusted = path.with_name("hostile-untrusted.ipynb")
    nbformat.write(notebook, untrusted)
    for name, lab in ((path.name, False), (untrusted.name, True)):
        page = Page(browser, server.address(name, lab=lab))
        page.says(REFUSED, "UsageError")
        # Where a notebook is not trusted, long names lose their style and do not wrap: the table scrolls.
        harmless(page.page, within="" if lab else ".mathjax_ignore")
        page.close()
        server.end_kernels()

    context = browser.new_context(offline=True)
    export = context.new_page()
    export.goto(exported(path).as_uri())
    harmless(export, formulas=False)
    context.close()
