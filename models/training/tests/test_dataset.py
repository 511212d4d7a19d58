"""Packed samples pose every question exactly as inference does."""

from random import Random

import numpy as np
import pytest

from reelsight_training import prompt, tokenizer
from reelsight_training.dataset import IGNORE, Packer, attention_mask, collate, draw_questions
from reelsight_training.questions import FAMILIES
from reelsight_training.world import draw_scene


@pytest.fixture(scope="module")
def packer():
    return Packer(tokenizer.build())


def packed(packer, seed):
    rng = Random(seed)
    scene = draw_scene(rng, 4)
    questions = draw_questions(rng, scene, dict.fromkeys(FAMILIES, 1.0), 6)
    return scene, questions, packer.pack(rng, scene, 4, questions)


def test_first_turns_equal_the_inference_prompt(packer):
    for seed in range(20):
        scene, questions, sample = packed(packer, seed)
        video = prompt.video_text([scene.clock(step) for step in range(scene.steps)], 4, 9)
        blocks = np.asarray(sample.blocks)
        visible = [index for index in range(len(blocks)) if blocks[index] in (0, 1)]
        wanted = packer.encode(f"{video}{questions[0].text}{prompt.ASK} {questions[0].answer}{tokenizer.EOS}")
        assert [sample.ids[index] for index in visible][: len(wanted)] == wanted
        assert [sample.positions[index] for index in visible] == list(range(len(visible)))


def test_labels_are_the_next_tokens(packer):
    _, _, sample = packed(packer, 5)
    for index, label in enumerate(sample.labels):
        assert label == IGNORE or label == sample.ids[index + 1]


def test_looks_stay_inside_what_the_query_may_see(packer):
    for seed in range(20):
        _, _, sample = packed(packer, seed)
        for looks in sample.looks.values():
            for place, keys in looks:
                assert all(key <= place and sample.blocks[key] in (0, sample.blocks[place]) for key in keys)


def test_block_mask(packer):
    batch = collate([packed(packer, seed)[2] for seed in range(3)], pad=0)
    mask, blocks = attention_mask(batch["blocks"])[:, 0], batch["blocks"]
    row = 0
    for query in np.flatnonzero(blocks[row] > 0)[:40]:
        seen = np.flatnonzero(mask[row, query])
        assert set(blocks[row, seen]) <= {0, blocks[row, query]}
        assert seen.max() == query
