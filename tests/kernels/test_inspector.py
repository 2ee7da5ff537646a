"""`--inspect` in a real kernel: what stands in the notebook once the kernel has ended."""

from __future__ import annotations

from pathlib import Path

from tests.support.kernels import PATIENCE, WIDGET, Kernel


def test_a_browser_that_is_left_open_goes_when_its_kernel_ends(apart: Path) -> None:
    kernel = Kernel(apart)
    try:
        kernel.ok("%load_ext tape_magic\nimport tensorflow as tf\nx = tf.Variable([1.0, 2.0])")
        ran = kernel.ok("%%grad y --wrt x --inspect\ny = tf.reduce_sum(x**2)")
        report, browser = ran.of("display_data")
        assert "∂y/∂x" in report.content["data"]["text/plain"]
        assert WIDGET in browser.content["data"]
        kernel.client.shutdown()
        message = kernel.client.get_iopub_msg(timeout=PATIENCE)
        while message["msg_type"] != "update_display_data":
            message = kernel.client.get_iopub_msg(timeout=PATIENCE)
        assert message["content"]["transient"] == browser.content["transient"]
        assert message["content"]["data"] == {"text/plain": ""}
    finally:
        kernel.close()
