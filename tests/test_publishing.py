"""What publishing needs: it agrees with the package, and the host can read it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

import tape_magic

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = [
    path for path in sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")) if path.stem != "config"
]
RECIPE = ROOT / ".ci" / "conda" / "recipe.yaml"

SCHEMAS = {
    "github-workflows": WORKFLOWS,
    "github-issue-forms": FORMS,
    "github-issue-config": [ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml"],
    "dependabot": [ROOT / ".github" / "dependabot.yml"],
    "citation-file-format": [ROOT / "CITATION.cff"],
}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.skipif(find_spec("check_jsonschema") is None, reason="of the extra test, on Python 3.12")
@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_host_can_read_it(schema: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    done = subprocess.run([*command, *map(str, SCHEMAS[schema])], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_jobs_wait_for_jobs_and_their_commands_parse(path: Path) -> None:
    jobs = read(path)["jobs"]
    for job in jobs.values():
        needs = job.get("needs", [])
        assert set([needs] if isinstance(needs, str) else needs) <= set(jobs)
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            # An expression is put in before the shell sees the line.
            command = re.sub(r"\$\{\{.*?\}\}", "value", step.get("run", ""))
            assert subprocess.run(["bash", "-n"], input=command, text=True).returncode == 0, command
            for word in shlex.split(command):
                if word.startswith((".ci/", "docs/", "tape_magic/")):
                    assert (ROOT / word).exists(), word
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w./-]+@(v\d+|release/v\d+)", step["uses"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_do_no_more_than_it_needs(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    writes = {
        name for name, job in workflow["jobs"].items() if "write" in job.get("permissions", {}).values()
    }
    assert (
        writes
        == {"tests": set(), "docs": {"deploy"}, "release": {"attest", "publish", "announce"}}[path.stem]
    )


def test_the_version_is_said_once() -> None:
    assert str(read(ROOT / "CITATION.cff")["version"]) == tape_magic.__version__
    assert read(RECIPE)["context"]["version"] == tape_magic.__version__


def test_the_recipe_requires_what_the_package_requires() -> None:
    def normal(requirement: str) -> str:
        return requirement.replace(" ", "")

    run = read(RECIPE)["requirements"]["run"]
    claimed = [f"python{PROJECT['requires-python']}", *PROJECT["dependencies"]]
    assert sorted(map(normal, run)) == sorted(map(normal, claimed))


def test_one_address() -> None:
    """Whatever names the project's address names the one in pyproject.toml."""
    urls = PROJECT["urls"]
    files = [path for path in ROOT.glob("*") if path.suffix in {".md", ".toml", ".cff"}]
    for folder, kinds in (("docs", ("md", "yml", "py")), (".github", ("yml", "md")), (".ci", ("yaml", "py"))):
        files += [path for kind in kinds for path in (ROOT / folder).rglob(f"*.{kind}")]
    files += (ROOT / "examples").glob("*.ipynb")
    named = 0
    for path in files:
        for address in re.findall(r"https://[\w./-]*tape-magic[\w./-]*", path.read_text(encoding="utf-8")):
            named += 1
            known = urls["Homepage"], urls["Documentation"].rstrip("/")
            raw = urls["Homepage"].replace("github.com", "raw.githubusercontent.com")
            colab = urls["Homepage"].replace("github.com", "colab.research.google.com/github")
            assert address.startswith((*known, raw, colab)), f"{path}: {address}"
    assert named > 10


def test_the_hooks_of_a_commit_are_commands_of_the_extras() -> None:
    lint = {re.split(r"[>=<\[]", one)[0] for one in PROJECT["optional-dependencies"]["lint"]}
    for repository in read(ROOT / ".pre-commit-config.yaml")["repos"]:
        assert repository["repo"] == "local"
        for hook in repository["hooks"]:
            assert hook["entry"].split()[0] in lint | {"python"}
