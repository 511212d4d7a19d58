"""The tokenizer keeps its promises about the words of the world."""

import pytest

from reelsight_training import prompt, tokenizer
from reelsight_training.lexicon import COLOUR_NAMES, COLUMNS, DIRECTIONS, LETTERS, ROWS, SHAPES


@pytest.fixture(scope="module")
def words():
    return tokenizer.build()


def test_world_words_are_one_token(words):
    for word in (*SHAPES, *COLOUR_NAMES, *ROWS, *COLUMNS, *DIRECTIONS, *LETTERS, "yes", "no", "not", "shown"):
        assert len(words.encode(f" {word}").ids) == 1, word


def test_clock_values_are_one_token(words):
    assert words.encode("12:05").tokens == ["12", ":", "05"]
    assert all(len(words.encode(f"{value:02d}").ids) == 1 for value in range(60))


def test_a_frame_costs_seventeen_tokens(words):
    one = words.encode(prompt.video_text([3], 4, 9)).ids
    two = words.encode(prompt.video_text([3, 4], 4, 9)).ids
    assert len(two) - len(one) == 17


def test_any_text_survives(words):
    text = "Grüße, 12345 ünïcode \u6f22\u5b57 and\ttabs\n\nFrame from nowhere."
    assert words.decode(words.encode(text).ids) == text


def test_numbers_are_spelled_as_num2words_does():
    num2words = pytest.importorskip("num2words").num2words
    assert all(prompt.number_word(value) == num2words(value) for value in range(1, 65))
