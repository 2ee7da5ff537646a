"""The lowest versions that pyproject.toml claims, as pip's requirements: `name>=x` becomes `name==x`.

What only the tests in a browser need is left out: it asks for newer widgets than the package itself.
"""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
for requirement in project["dependencies"] + project["optional-dependencies"]["test"]:
    if "python_version < '3.13'" in requirement:
        continue
    bound = re.fullmatch(r"([\w-]+)>=([\d.]+)(; .*)?", requirement)
    if bound is None:
        raise SystemExit(f"pyproject.toml: {requirement!r} has no lowest version of the form 'name>=1.2'.")
    print(f"{bound[1]}=={bound[2]}{bound[3] or ''}")
