"""GPT-2's byte-level pairs. The real vocabulary is not shipped: here are small ones of the same form."""

from __future__ import annotations

import json

import numpy as np
import pytest
from golden_values import GOLDEN
from small_one_peace import put_vocabulary

from davel.core.errors import ConfigError, MissingError
from davel.features.one_peace import embeddings
from davel.features.one_peace.published import VOCABULARY
from davel.features.one_peace.tokenizer import CHARACTERS, Tokenizer, split

WHOLE = " an audio visual event of man speaking"
"""Words that are one token each in the published vocabulary, as the golden prompt has as many."""


@pytest.fixture
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("DAVEL_HOME", str(tmp_path))
    return tmp_path


def test_a_prompt_has_the_released_tokens(monkeypatch, home):
    with np.load(GOLDEN / "one_peace" / "text_small.npz") as stored:
        texts = json.loads(str(stored["meta"]))["texts"]
        expected, cow, empty = (stored[f"tokens_{i}"].tolist() for i in (0, 3, 4))
    words = [f" {word}" for word in WHOLE.split()]
    indices = dict(zip([*words, "."], expected[:-1], strict=True)) | {" cow": cow[0], " ": empty[0]}
    put_vocabulary(monkeypatch, home, indices)
    tokenizer = embeddings.open_tokenizer()
    assert tokenizer(texts[0]) == expected
    assert tokenizer(texts[3]) == cow
    assert tokenizer("") == empty == [1437, 2]
    assert tokenizer("AN  Cow") == [expected[0], 1437, cow[0], 2]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        (" it's they'll we've", [" it", "'s", " they", "'ll", " we", "'ve"]),
        (" 3.14 & 100%!", [" 3", ".", "14", " &", " 100", "%!"]),
        ("   two   spaces\tand", ["  ", " two", "  ", " spaces", "\t", "and"]),
        (" end  ", [" end", "  "]),
        (" über-naïve 猫が ½Ⅻ x²", [" über", "-", "naïve", " 猫が", " ½Ⅻ", " x", "²"]),
        (" a_b\u3000c\x1c", [" a", "_", "b", "\u3000", "c", "\x1c"]),
        ("", []),
    ],
)
def test_text_is_cut_as_gpt_2_s_pattern_cuts_it(text, pieces):
    assert list(split(text)) == pieces
    assert "".join(pieces) == text


def test_every_byte_has_a_printable_character():
    assert len(set(CHARACTERS.values())) == 256
    assert all(c.isprintable() and not c.isspace() for c in CHARACTERS.values())
    assert (CHARACTERS[ord("a")], CHARACTERS[ord(" ")], CHARACTERS[0]) == ("a", "Ġ", "Ā")


def test_the_pair_that_stands_first_is_merged_first_and_everywhere():
    numbers = {piece: n for n, piece in enumerate(["Ġ", "a", "b", "ab", "bab", "ba"])}
    words = [str(n) for n in numbers.values()]
    tokenizer = Tokenizer(numbers, [("b", "a"), ("a", "b"), ("ba", "b")], words)
    assert tokenizer("babab") == [4, 9, 8, 2]
    tokenizer = Tokenizer(numbers, [("a", "b"), ("b", "a"), ("b", "ab")], words)
    assert tokenizer("babab") == [4, 8, 7, 2]


def test_long_texts_are_cut_and_what_is_not_in_the_dictionary_is_unknown():
    tokenizer = Tokenizer({"Ġ": 0, "a": 1}, [], ["0"])
    assert tokenizer("a" * 200) == [4, *[3] * 69, 2]
    assert tokenizer("猫")[1:] == [3, 3, 3, 2]


def test_a_vocabulary_that_is_not_there_is_told_with_what_to_fetch(home, run):
    with pytest.raises(
        MissingError, match=r"run `davel weights fetch gpt2-bpe-encoder`, or download https://.*encoder"
    ):
        embeddings.open_tokenizer()
    (home / "names.txt").write_text("dog barking\n")
    code, _, err = run("features", "embed", home / "names.txt")
    assert code == 5
    assert err.count("\n") == 1
    assert "gpt2_bpe_encoder.json" in err


def test_another_file_than_the_published_one_is_refused(monkeypatch, home):
    put_vocabulary(monkeypatch, home, {})
    monkeypatch.setattr(embeddings, "VOCABULARY", VOCABULARY)
    with pytest.raises(ConfigError, match=r"encoder.json: has sha256 .*, published is 196139668be63f3b…"):
        embeddings.open_tokenizer()


@pytest.mark.parametrize(("n", "content"), [(0, "[1, 2]"), (0, "{"), (1, "#version\nĠ a b\n"), (2, "a\nb\n"), (2, "")])
def test_a_file_of_no_vocabulary_is_told_by_name(monkeypatch, home, n, content):
    put_vocabulary(monkeypatch, home, {" cow": 40})
    path = home / "weights" / VOCABULARY[n].file
    path.write_text(content)
    with pytest.raises(ConfigError, match=f"{path.name}: not a file of GPT-2's vocabulary"):
        embeddings.open_tokenizer()
