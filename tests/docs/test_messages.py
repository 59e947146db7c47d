"""What docs/troubleshooting.md quotes, davel says: the fixed words of every message stand in the source.

On the page, `...` is a gap: at least one thing there that differs from case to case, and whatever stands around it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"
GAP = "\0"
"""Stands for a placeholder of the source."""
LEAST_LETTERS = 10
"""Of a quote's fixed words, for it to be one of anything."""


def quotes(page: str) -> list[str]:
    """The messages in the level-3 headings."""
    headings = re.findall(r"^### (.*)$", page, re.MULTILINE)
    return [quote for heading in headings for quote in re.findall(r"`([^`]+)`", heading)]


def messages_of_python(source: str) -> Iterator[str]:
    """Its strings, f-strings whole with a gap for each placeholder; those that are statements are documentation."""
    told: set[ast.AST] = set()
    for node in ast.walk(ast.parse(source)):  # what holds a string comes before the string
        if isinstance(node, ast.Expr):
            told.add(node.value)
        elif node in told:
            continue
        elif isinstance(node, ast.JoinedStr):
            told.update(node.values)
            yield "".join(part.value if isinstance(part, ast.Constant) else GAP for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def messages_of_javascript(source: str) -> Iterator[str]:
    """The strings of each kind of quotation mark, on one line; `${...}` is a gap."""
    for text in re.findall(r"`([^`\n]*)`|\"([^\"\n]*)\"", source):
        yield re.sub(r"\$\{[^}]*\}", GAP, "".join(text))


def all_messages() -> set[str]:
    source = ROOT / "src" / "davel"
    found = {m for path in source.rglob("*.py") for m in messages_of_python(path.read_text(encoding="utf-8"))}
    return found | {
        m for path in source.rglob("*.js") for m in messages_of_javascript(path.read_text(encoding="utf-8"))
    }


MESSAGES = all_messages()


def is_said(quote: str, messages: set[str]) -> bool:
    """Whether some message has the quote's fixed words, in this order, with a placeholder in each of its gaps."""
    pattern = f"[^{GAP}]*{GAP}.*?".join(re.escape(piece.strip()) for piece in quote.split("..."))
    return any(re.search(pattern, message, re.DOTALL) for message in messages)


PAGE_QUOTES = quotes(PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("quote", PAGE_QUOTES)
def test_a_quoted_message_stands_in_the_source(quote):
    assert is_said(quote, MESSAGES)


@pytest.mark.parametrize("quote", PAGE_QUOTES)
def test_a_quote_has_enough_words_to_be_one_message(quote):
    assert len(re.findall(r"\w", quote)) >= LEAST_LETTERS


def test_the_page_quotes_messages_once():
    assert len(PAGE_QUOTES) > 40
    assert len(set(PAGE_QUOTES)) == len(PAGE_QUOTES)


def test_every_heading_of_a_message_is_nothing_but_quotes():
    headings = re.findall(r"^### (.*`.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert all(re.fullmatch(r"`[^`]+`(, `[^`]+`)*", heading) for heading in headings)


@pytest.mark.parametrize(
    "quote",
    [
        "the video is too loud: turn it down",
        "is cut off: ... s of its ... can be heard",
        "were expected ... is cut off",  # the words of a message in another order
        "is cut off: ... can be decoded, ... and ... were expected",  # more gaps than there are placeholders
        "is cut off: s of its",  # a gap that is not shown
        "Its rotation is not known either, before its first picture",  # a docstring's
        "what lies before zero is the coder's run-up",  # a comment's
    ],
)
def test_an_invented_message_is_not_found(quote):
    assert not is_said(quote, MESSAGES)


def test_strings_that_are_joined_across_lines_are_one_message():
    source = '''
def f(name, n):
    """Not a message: of a docstring."""
    raise ValueError(
        f"{name}: has {n} of them, "
        "where one is meant: "
        f"leave {n - 1} out"
    )
'''
    messages = set(messages_of_python(source))
    assert is_said("has ... of them, where one is meant: leave ... out", messages)
    assert not is_said("has ... of them, where two are meant", messages)
    assert not is_said("Not a message: of a docstring.", messages)


def test_a_template_of_javascript_is_a_message():
    messages = set(messages_of_javascript('say(`Cannot play ${this.name}. Convert it.`, "or not at all");'))
    assert is_said("Cannot play ... Convert it.", messages)
    assert is_said("or not at all", messages)
    assert not is_said("Cannot play it. Convert it.", messages)
