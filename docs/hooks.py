"""What the site has beside its pages: files of the project that are pages, and the tables of options."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from tape_magic.magics.line.options import MAGICS
from tape_magic.magics.line.parser import Magic
from tape_magic.magics.shell import TapeMagics

ROOT = Path(__file__).parents[1]

PAGES = {
    "ARCHITECTURE.md": "about/architecture.md",
    "benchmarks/README.md": "about/benchmarks.md",
    "SECURITY.md": "about/security.md",
    "CONTRIBUTING.md": "about/contributing.md",
    "CHANGELOG.md": "about/changelog.md",
}
"""Files of the project that are pages of the site, too."""

_LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)(#[^)]*)?\)")
_OPTIONS = re.compile(r"^<!-- options of (\w+) -->$", re.MULTILINE)


def on_files(files: Files, config: Any) -> Files:
    """Add the files of the project that are pages."""
    for name, address in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, address, content=with_links(text, config["repo_url"])))
    return files


def with_links(text: str, repository: str) -> str:
    """Return the text with links to files of the project as links to pages, or else to the repository."""

    def address(match: re.Match[str]) -> str:
        path, anchor = match[1], match[2] or ""
        if path in PAGES:
            return f"]({Path(PAGES[path]).name}{anchor})"
        return f"]({repository}/blob/main/{path}{anchor})"

    return _LINK.sub(address, text)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the table of a magic's options where a page asks for it."""
    magics = {magic.name: magic for magic in MAGICS}
    markdown = _OPTIONS.sub(lambda match: table(magics[match[1]]), markdown)
    return markdown.replace("<!-- defaults -->", defaults())


def table(magic: Magic) -> str:
    """Return the options of a magic as a table in Markdown."""
    rows = ["| option | meaning |", "|---|---|"]
    for option in magic.options:
        words = f"{', '.join(option.flags)} {option.metavar}".strip().replace("|", "\\|")
        rows.append(f"| `{words}` | {option.help} |")
    return "\n".join(rows)


def defaults() -> str:
    """Return the traits of the magics as a table in Markdown."""
    rows = ["| name | default | meaning |", "|---|---|---|"]
    for name, trait in sorted(TapeMagics.class_own_traits(config=True).items()):
        rows.append(f"| `{name}` | `{trait.default()!r}` | {trait.help} |")
    return "\n".join(rows)


def on_post_page(output: str, **_: Any) -> str:
    """Return a page whose script does not ask the repository's host for its stars and forks.

    The theme's script does so for each link to the source that is marked as a component (mkdocs-material 9).
    """
    return output.replace(' data-md-component="source"', "")


def on_post_template(output_content: str, **_: Any) -> str:
    """Return the page of addresses that do not exist, likewise."""
    return on_post_page(output_content)
