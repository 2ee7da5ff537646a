"""The installed package in an IPython shell: derivatives, a minimum, the devices. Any failure is an error."""

import importlib.metadata
import os
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["IPYTHONDIR"] = tempfile.mkdtemp()

from IPython.core.interactiveshell import InteractiveShell

CELLS = [
    "%load_ext tape_magic",
    "import tensorflow as tf\nx = tf.Variable(0.0)",
    "%%grad dy/dx, d2y/dx2\ny = (x - 3)**2",
    "assert (float(dy_dx), float(d2y_dx2)) == (-6.0, 2.0)",
    "%%minimize y --over x\ny = (x - 3)**2",
    "assert abs(float(x) - 3) < 1e-3 and minimum.converged",
    "%tfgpu",
]

shell = InteractiveShell.instance()
for cell in CELLS:
    shell.run_cell(cell).raise_error()

print("works as installed:", "tape_magic", importlib.metadata.version("tape_magic"))
