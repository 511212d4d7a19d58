"""The world keeps its rules, and every answer can be checked against the scene."""

from random import Random

import pytest

from reelsight_training.lexicon import NOT_SHOWN, cell_name, stamp
from reelsight_training.questions import FAMILIES, draw
from reelsight_training.world import OFFSETS, draw_scene, neighbour


def scenes(count: int, seed: int = 3, shortest: int = 1):
    rng = Random(seed)
    for _ in range(count):
        yield rng, draw_scene(rng, rng.randrange(shortest, 12))


def test_one_thing_per_cell_and_no_duplicates():
    for _, scene in scenes(300):
        for step in range(scene.steps):
            cells = [thing.cells[step] for thing in scene.things if thing.cells[step] is not None]
            assert len(cells) == len(set(cells))
        names = [thing.name for thing in scene.things]
        assert len(names) == len(set(names))


def test_moves_go_one_cell_in_the_stated_direction():
    for _, scene in scenes(300):
        for thing in scene.things:
            assert bool(thing.hops) == bool(thing.direction)
            for step in thing.hops:
                assert neighbour(thing.cells[step - 1], thing.direction) == thing.cells[step]


def test_neighbours_stay_inside():
    assert neighbour(0, "left") is None and neighbour(2, "right") is None
    assert neighbour(4, "up") == 1 and neighbour(4, "down") == 7
    assert set(OFFSETS) == {"left", "right", "up", "down"}


@pytest.mark.parametrize("family", FAMILIES)
def test_families_produce_well_formed_questions(family):
    found = 0
    for rng, scene in scenes(200):
        question = draw(rng, scene, family)
        if question is None:
            continue
        found += 1
        assert question.family == family and question.text and question.answer
        if family == "not_shown":
            assert question.answer == NOT_SHOWN and question.evidence is None
            continue
        start, end = question.evidence
        assert 0 <= start < end <= scene.steps
        for phrase, _ in question.mentions:
            assert phrase in question.text
        for thing, step in question.points:
            assert thing.cells[step] is not None
    assert found > 20


def test_answers_agree_with_the_scene():
    for rng, scene in scenes(400):
        where = draw(rng, scene, "where")
        if where is not None:
            thing = where.mentions[0][1]
            assert where.answer == cell_name(thing.cells[where.step])
        when = draw(rng, scene, "when")
        if when is not None:
            assert when.answer == stamp(when.mentions[0][1].first)
        count = draw(rng, scene, "count")
        assert int(count.answer) == len(scene.objects)


def test_yes_and_no_are_balanced():
    for family in ("moving", "before", "condition"):
        answers = [q.answer for rng, scene in scenes(1500, shortest=3) if (q := draw(rng, scene, family))]
        share = answers.count("yes") / len(answers)
        assert 0.4 < share < 0.6, family


def test_same_seed_same_scene():
    assert draw_scene(Random(9), 6) == draw_scene(Random(9), 6)
