"""The commands and programs that README and docs show, in order."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).parent.parent
PAGES = {path.name: path for path in (TOP / "README.md", *sorted((TOP / "docs").glob("*.md")))}
LANGUAGES = {"sh", "console", "python", "json", "text", "yaml", "toml"}


@dataclass(frozen=True)
class Step:
    page: str
    line: int
    text: str
    """A command, or a program."""
    is_python: bool = False

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def blocks(page: str) -> list[tuple[str, int, list[str]]]:
    """Language, line and content of each fenced block."""
    found: list[tuple[str, int, list[str]]] = []
    inside = False
    for number, line in enumerate(PAGES[page].read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            if not inside:
                found.append((line.strip().strip("`"), number + 1, []))
            inside = not inside
        elif inside:
            found[-1][2].append(line)
    return found


def steps(page: str) -> list[Step]:
    """What a reader of a page would type."""
    found = []
    for language, first, lines in blocks(page):
        if language == "python":
            found.append(Step(page, first, "\n".join(lines), is_python=True))
            continue
        for number, line in enumerate(lines, first):
            prompt = language == "console" and line.startswith("$ ")
            text = re.sub(r"\s+#.*", "", line.removeprefix("$ ") if prompt else line).strip()
            if text and (language == "sh" or prompt):
                found.append(Step(page, number, text))
    return found
