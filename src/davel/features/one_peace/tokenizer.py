"""ONE-PEACE's tokens: GPT-2's byte-level pairs (Radford et al., 2019), numbered as in fairseq's dictionary."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path

from davel.core.errors import ConfigError

FIRST_WORD = 4
"""Before the dictionary's own lines: beginning, padding, end, unknown."""
END, UNKNOWN = 2, 3
MOST_TOKENS = 70
CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
SPACES = frozenset("\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000") | {chr(c) for c in range(0x2000, 0x200B)}
"""Unicode's White_Space."""
PIECE = re.compile(r" ?L+| ?N+| ?X+|[ S]+(?![^ S])|[ S]+")
"""Runs of letters, of numbers or of other characters, each with the space before it; and of spaces."""


class Tokenizer:
    def __init__(self, numbers: Mapping[str, int], pairs: Iterable[tuple[str, str]], words: Iterable[str]) -> None:
        """The vocabulary by its pieces, the pairs to be merged, first ones first, and the numbers in the dictionary's
        order, as text."""
        self.numbers = numbers
        self.ranks = {pair: rank for rank, pair in enumerate(pairs)}
        self.indices = {word: FIRST_WORD + k for k, word in enumerate(words)}
        self._pieces = lru_cache(maxsize=4096)(self._merged)

    @classmethod
    def read(cls, encoder: Path, pairs: Path, dictionary: Path) -> Tokenizer:
        """Of fairseq's `encoder.json`, `vocab.bpe` and `dict.txt`. ConfigError names the file that is another."""
        path = encoder
        try:
            numbers = json.loads(encoder.read_text(encoding="utf-8"))
            if not isinstance(numbers, dict) or not all(isinstance(n, int) for n in numbers.values()):
                raise ValueError("expected numbers by pieces")
            path = pairs
            lines = pairs.read_text(encoding="utf-8").splitlines()[1:]  # the first is a comment
            merges = [(first, second) for first, second in (line.split() for line in lines if line)]
            path = dictionary
            words = [line.rsplit(" ", 1)[0] for line in dictionary.read_text(encoding="utf-8").splitlines()]
            if not any(word in words for word in map(str, numbers.values())):
                raise ValueError("expected a number and its count in each line")
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: not a file of GPT-2's vocabulary ({error}): fetch it again") from error
        return cls(numbers, merges, words)

    def __call__(self, text: str) -> list[int]:
        """At most 70 indices, then the end."""
        return [*islice(self._indices(text), MOST_TOKENS), END]

    def _indices(self, text: str) -> Iterator[int]:
        for piece in split(f" {text.lower()}"):
            for part in self._pieces("".join(CHARACTERS[byte] for byte in piece.encode("utf-8", "replace"))):
                yield self.indices.get(str(self.numbers.get(part)), UNKNOWN)

    def _merged(self, piece: str) -> tuple[str, ...]:
        """The pair that stands first in the list is merged wherever it is, until none is left that stands there."""
        parts = tuple(piece)
        while len(parts) > 1:
            first = min(pairwise(parts), key=lambda pair: self.ranks.get(pair, len(self.ranks)))
            if first not in self.ranks:
                break
            parts = _merge(parts, first)
        return parts


def _merge(parts: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged: list[str] = []
    k = 0
    while k < len(parts):
        is_pair = parts[k : k + 2] == pair
        merged.append("".join(pair) if is_pair else parts[k])
        k += 2 if is_pair else 1
    return tuple(merged)


def split(text: str) -> Iterator[str]:
    """The pieces within which pairs are merged, as GPT-2's pattern cuts them."""
    kinds = "".join(map(_kind, text))
    at = 0
    while at < len(text):
        end = next((at + len(word) for word in CONTRACTIONS if text.startswith(word, at)), None)
        if end is None:
            match = PIECE.match(kinds, at)
            assert match, f"every character is of some kind, {text[at]!r} too"
            end = match.end()
        yield text[at:end]
        at = end


def _kind(c: str) -> str:
    """A letter, a number, a space, another white space, or anything else: L, N, ` `, S, X"""
    if c in SPACES:
        return " " if c == " " else "S"
    category = unicodedata.category(c)[0]
    return category if category in "LN" else "X"


def _characters() -> dict[int, str]:
    """A printable character for every byte: its own, or those from U+0100 on, in order."""
    own = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(0x100, 0x200))
    return {byte: chr(byte if byte in own else next(others)) for byte in range(256)}


CHARACTERS = _characters()
