"""`%tfgpu --watch` in a real kernel: it goes on while a cell runs, and ends with a picture."""

from __future__ import annotations

from pathlib import Path

from tests.support.kernels import PATIENCE, WIDGET, Kernel

UNTIL_IT_MOVES = """
import time
shown = get_ipython().magics_manager.registry["TapeMagics"]._watch._shows._html
before, end = shown.value, time.monotonic() + 60
while shown.value == before and time.monotonic() < end:
    time.sleep(0.05)
print(shown.value != before, "tensorflow" in sys.modules)
"""


def test_it_moves_while_a_cell_runs_and_its_picture_stays_when_the_kernel_ends(apart: Path) -> None:
    kernel = Kernel(apart)
    try:
        kernel.ok("%load_ext tape_magic\nimport sys")
        (opened,) = kernel.ok("%tfgpu --watch").of("display_data")
        assert WIDGET in opened.content["data"]
        assert "CPU" in opened.content["data"]["text/plain"]
        assert kernel.ok(UNTIL_IT_MOVES).stdout == "True False\n"
        kernel.client.shutdown()
        message = kernel.client.get_iopub_msg(timeout=PATIENCE)
        while message["msg_type"] != "update_display_data":
            message = kernel.client.get_iopub_msg(timeout=PATIENCE)
        assert message["content"]["transient"] == opened.content["transient"]
        assert "watched until" in message["content"]["data"]["text/html"]
        assert WIDGET not in message["content"]["data"]
    finally:
        kernel.close()
