"""Asks questions about a scene whose answers are known, with the evidence for each.

Every family is a function from (rng, scene) to a question or None when the scene has no
such question. Answers are balanced where the scene allows it: a yes/no family draws the
wanted answer first and gives up if the scene cannot provide it.
"""

from dataclasses import dataclass
from random import Random

from reelsight_training.lexicon import (
    COLOUR_NAMES,
    DIRECTIONS,
    LETTERS,
    NOT_SHOWN,
    NUMBER_WORDS,
    SHAPES,
    cell_name,
    stamp,
)
from reelsight_training.world import Scene, Thing


@dataclass(frozen=True)
class Question:
    """A question, its answer, and the steps [start, end) that decide it (None: nowhere)."""

    text: str
    answer: str
    family: str
    evidence: tuple[int, int] | None
    # What the text refers to, as (phrase, thing or None when absent): extra supervision.
    mentions: tuple[tuple[str, Thing | None], ...] = ()
    # The step the text asks about, if it names one.
    step: int | None = None
    # The (thing, step) pairs that decide the answer.
    points: tuple[tuple[Thing, int], ...] = ()


def _unique(scene: Scene, attribute: str) -> list[Thing]:
    """Returns the objects whose shape (or colour) no other object of the scene has."""
    values = [getattr(thing, attribute) for thing in scene.objects]
    return [thing for thing in scene.objects if values.count(getattr(thing, attribute)) == 1]


def _ask(rng: Random, templates: tuple[str, ...], **parts: str) -> str:
    return rng.choice(templates).format(**parts)


def _always(thing: Thing) -> tuple[tuple[Thing, int], ...]:
    """Returns every step in which a thing is visible."""
    return tuple((thing, step) for step in range(thing.first, thing.end))


def _arrivals(*things: Thing) -> tuple[tuple[Thing, int], ...]:
    """Returns the step in which each thing appears."""
    return tuple((thing, thing.first) for thing in things)


def _hops(*things: Thing) -> tuple[tuple[Thing, int], ...]:
    """Returns the steps in which the things have just moved."""
    return tuple((thing, step) for thing in things for step in thing.hops)


def _visible(thing: Thing) -> tuple[int, int]:
    return thing.first, thing.end


DIGIT = ("What digit is shown?", "Which digit is shown?", "What number is shown?", "Which digit appears in the video?")
COUNT = (
    "How many objects are shown?",
    "How many objects are there?",
    "How many different objects appear?",
    "How many objects appear in the video?",
)
SHAPE = ("What shape is the {colour} object?", "Which shape is the {colour} object?", "What is the shape of the {colour} object?")
COLOUR = ("What color is the {shape}?", "Which color is the {shape}?", "What is the color of the {shape}?")
WHERE = (
    "Where is the {name} at {time}?",
    "At {time}, where is the {name}?",
    "What is the position of the {name} at {time}?",
)
MOVING = ("Is anything moving?", "Does anything move?", "Is there any motion?", "Is there any object moving?")
DIRECTION = (
    "Which way does the {name} move?",
    "In which direction does the {name} move?",
    "Which way is the {name} moving?",
)
FIRST = ("Which object appears first?", "What object appears first?", "Which object is shown first?")
LAST = ("Which object appears last?", "What object appears last?", "Which object is shown last?")
BEFORE = ("Does the {a} appear before the {b}?", "Does the {a} come into view before the {b}?", "Is the {a} shown before the {b}?")
AFTER = ("Does the {a} appear after the {b}?", "Does the {a} come into view after the {b}?", "Is the {a} shown after the {b}?")
WHEN = (
    "When does the {name} appear?",
    "When does the {name} come into view?",
    "At what time does the {name} appear?",
)
CHOICE = "{question} {options}"
CAPTION = ("Describe the video.", "List the objects.", "What is shown in the video?", "What does the video show?")
EXISTS = ("Is there a {name}?", "Is a {name} shown?", "Does a {name} appear?", "Is there a {name} in the video?")
ANY_COLOUR = ("Is there anything {colour}?", "Is anything {colour}?", "Is there a {colour} object?")
MORE = ("Are there more than {number} objects?", "Are more than {number} objects shown?")
MOVES_WAY = ("Does anything move {way}?", "Is anything moving {way}?")
MOVES = ("Does the {name} move?", "Is the {name} moving?")
HAS_DIGIT = ("Is a digit shown?", "Is there a digit?")


def digit(rng: Random, scene: Scene) -> Question | None:
    """Asks for the digit."""
    thing = scene.digit
    return thing and Question(_ask(rng, DIGIT), str(thing.digit), "digit", _visible(thing), points=_always(thing))


def count(rng: Random, scene: Scene) -> Question | None:
    """Asks how many distinct objects the video shows; digits are not objects."""
    return Question(_ask(rng, COUNT), str(len(scene.objects)), "count", (0, scene.steps), points=_arrivals(*scene.objects))


def shape(rng: Random, scene: Scene) -> Question | None:
    """Asks for the shape of the object of a colour."""
    things = _unique(scene, "colour")
    if not things:
        return None
    thing = rng.choice(things)
    text = _ask(rng, SHAPE, colour=thing.colour)
    return Question(text, thing.shape, "shape", _visible(thing), ((thing.colour, thing),), points=_always(thing))


def colour(rng: Random, scene: Scene) -> Question | None:
    """Asks for the colour of the object of a shape."""
    things = _unique(scene, "shape")
    if not things:
        return None
    thing = rng.choice(things)
    text = _ask(rng, COLOUR, shape=thing.shape)
    return Question(text, thing.colour, "colour", _visible(thing), ((thing.shape, thing),), points=_always(thing))


def where(rng: Random, scene: Scene) -> Question | None:
    """Asks in which of the nine cells an object stands at a time."""
    if not scene.objects:
        return None
    moving = [thing for thing in scene.objects if thing.direction]
    thing = rng.choice(moving if moving and rng.random() < 0.5 else scene.objects)
    step = rng.randrange(thing.first, thing.end)
    text = _ask(rng, WHERE, name=thing.name, time=stamp(scene.clock(step)))
    return Question(text, cell_name(thing.cells[step]), "where", (step, step + 1), ((thing.name, thing),), step, ((thing, step),))


def moving(rng: Random, scene: Scene) -> Question | None:
    """Asks whether anything moves."""
    hops = sorted(step for thing in scene.objects for step in thing.hops)
    if bool(hops) != (rng.random() < 0.5):
        return None
    evidence = (hops[0] - 1, hops[-1] + 1) if hops else (0, scene.steps)
    return Question(_ask(rng, MOVING), "yes" if hops else "no", "moving", evidence, points=_hops(*scene.objects))


def direction(rng: Random, scene: Scene) -> Question | None:
    """Asks which way an object moves."""
    things = [thing for thing in scene.objects if thing.direction]
    if not things:
        return None
    thing = rng.choice(things)
    evidence = (thing.hops[0] - 1, thing.hops[-1] + 1)
    text = _ask(rng, DIRECTION, name=thing.name)
    return Question(text, thing.direction, "direction", evidence, ((thing.name, thing),), points=_hops(thing))


def first_last(rng: Random, scene: Scene) -> Question | None:
    """Asks which object appears first or last, when that is one object."""
    things = scene.objects
    if len(things) < 2:
        return None
    earliest = rng.random() < 0.5
    thing, other = (things[0], things[1]) if earliest else (things[-1], things[-2])
    if thing.first == other.first:
        return None
    text = _ask(rng, FIRST if earliest else LAST)
    return Question(text, thing.name, "first_last", (thing.first, thing.first + 1), points=_arrivals(thing))


def before(rng: Random, scene: Scene) -> Question | None:
    """Asks whether one object appears before (or after) another."""
    pairs = [(a, b) for a in scene.objects for b in scene.objects if a.first < b.first]
    if not pairs:
        return None
    early, late = rng.choice(pairs)
    yes, flipped = rng.random() < 0.5, rng.random() < 0.3
    a, b = (early, late) if yes != flipped else (late, early)
    text = _ask(rng, AFTER if flipped else BEFORE, a=a.name, b=b.name)
    evidence = (early.first, late.first + 1)
    mentions = ((a.name, a), (b.name, b))
    return Question(text, "yes" if yes else "no", "before", evidence, mentions, points=_arrivals(a, b))


def when(rng: Random, scene: Scene) -> Question | None:
    """Asks at what time an object comes into view."""
    late = [thing for thing in scene.objects if thing.first > 0]
    pool = late if late and rng.random() < 0.85 else scene.objects
    if not pool:
        return None
    thing = rng.choice(pool)
    text = _ask(rng, WHEN, name=thing.name)
    evidence = (thing.first, thing.first + 1)
    return Question(text, stamp(scene.clock(thing.first)), "when", evidence, ((thing.name, thing),), points=_arrivals(thing))


def choice(rng: Random, scene: Scene) -> Question | None:
    """Asks a shape or colour question with three lettered options."""
    maker, values = rng.choice(((shape, SHAPES), (colour, COLOUR_NAMES)))
    plain = maker(rng, scene)
    if plain is None:
        return None
    options = rng.sample([value for value in values if value != plain.answer], len(LETTERS) - 1)
    place = rng.randrange(len(LETTERS))
    options.insert(place, plain.answer)
    listed = " ".join(f"{letter}) {option}" for letter, option in zip(LETTERS, options, strict=True))
    text = CHOICE.format(question=plain.text, options=listed)
    return Question(text, LETTERS[place], "choice", plain.evidence, plain.mentions, points=plain.points)


def _absent(rng: Random, scene: Scene) -> tuple[str, str]:
    """Draws a (shape, colour) pair that the scene lacks, often by one attribute only."""
    present = {(thing.shape, thing.colour) for thing in scene.objects}
    while True:
        pair = rng.choice(SHAPES), rng.choice(COLOUR_NAMES)
        if present and rng.random() < 0.6:
            near = rng.choice(sorted(present))
            pair = (near[0], pair[1]) if rng.random() < 0.5 else (pair[0], near[1])
        if pair not in present:
            return pair


def _condition_exists(rng: Random, scene: Scene, want: bool) -> Question | None:
    if want:
        if not scene.objects:
            return None
        thing = rng.choice(scene.objects)
        name, found = thing.name, thing
    else:
        pair = _absent(rng, scene)
        name, found = f"{pair[1]} {pair[0]}", None
    evidence = _visible(found) if found else (0, scene.steps)
    points = _always(found) if found else ()
    return Question(_ask(rng, EXISTS, name=name), "", "", evidence, ((name, found),), points=points)


def _condition_attribute(rng: Random, scene: Scene, want: bool) -> Question | None:
    by_shape = rng.random() < 0.5
    values, key = (SHAPES, "shape") if by_shape else (COLOUR_NAMES, "colour")
    present = [getattr(thing, key) for thing in scene.objects]
    pool = [value for value in values if (value in present) == want]
    if not pool:
        return None
    value = rng.choice(pool)
    text = _ask(rng, EXISTS, name=value) if by_shape else _ask(rng, ANY_COLOUR, colour=value)
    shown = [thing for thing in scene.objects if getattr(thing, key) == value]
    evidence = _visible(shown[0]) if shown else (0, scene.steps)
    only = ((value, shown[0] if shown else None),) if len(shown) < 2 else ()
    points = _always(shown[0]) if shown else ()
    return Question(text, "", "", evidence, only, points=points)


def _condition_more(rng: Random, scene: Scene, want: bool) -> Question | None:
    number = len(scene.objects)
    limits = [limit for limit in (1, 2, 3) if (number > limit) == want]
    if not limits:
        return None
    text = _ask(rng, MORE, number=NUMBER_WORDS[rng.choice(limits)])
    return Question(text, "", "", (0, scene.steps), points=_arrivals(*scene.objects))


def _condition_way(rng: Random, scene: Scene, want: bool) -> Question | None:
    ways = {thing.direction: thing for thing in scene.objects if thing.direction}
    pool = [way for way in DIRECTIONS if (way in ways) == want]
    if not pool or not (ways or rng.random() < 0.3):
        return None
    way = rng.choice(pool)
    evidence = (ways[way].hops[0] - 1, ways[way].hops[-1] + 1) if want else (0, scene.steps)
    points = _hops(ways[way]) if want else _hops(*ways.values())
    return Question(_ask(rng, MOVES_WAY, way=way), "", "", evidence, points=points)


def _condition_moves(rng: Random, scene: Scene, want: bool) -> Question | None:
    pool = [thing for thing in scene.objects if bool(thing.direction) == want]
    if not pool:
        return None
    thing = rng.choice(pool)
    evidence = (thing.hops[0] - 1, thing.hops[-1] + 1) if want else _visible(thing)
    mentions = ((thing.name, thing),)
    points = _hops(thing) if want else _always(thing)
    return Question(_ask(rng, MOVES, name=thing.name), "", "", evidence, mentions, points=points)


def _condition_digit(rng: Random, scene: Scene, want: bool) -> Question | None:
    if bool(scene.digit) != want:
        return None
    evidence = _visible(scene.digit) if want else (0, scene.steps)
    points = _always(scene.digit) if want else ()
    return Question(_ask(rng, HAS_DIGIT), "", "", evidence, points=points)


CONDITIONS = (
    _condition_exists,
    _condition_attribute,
    _condition_more,
    _condition_way,
    _condition_moves,
    _condition_digit,
)


def condition(rng: Random, scene: Scene) -> Question | None:
    """Asks a yes/no question of the kind that monitoring asks."""
    want = rng.random() < 0.5
    bare = rng.choices(CONDITIONS, (4, 3, 3, 3, 2, 1))[0](rng, scene, want)
    if bare is None:
        return None
    answer = "yes" if want else "no"
    return Question(bare.text, answer, "condition", bare.evidence, bare.mentions, points=bare.points)


def caption(rng: Random, scene: Scene) -> Question | None:
    """Asks for everything shown: the objects in order of appearance, then the digit."""
    names = [thing.name for thing in scene.objects]
    names += [scene.digit.name] if scene.digit else []
    if not names:
        return None
    return Question(_ask(rng, CAPTION), ", ".join(names), "caption", (0, scene.steps), points=_arrivals(*scene.things))


def _absent_name(rng: Random, scene: Scene) -> Question:
    kind, tint = _absent(rng, scene)
    name = f"{tint} {kind}"
    templates = rng.choice((WHERE, DIRECTION, WHEN))
    step = rng.randrange(scene.steps)
    text = _ask(rng, templates, name=name, time=stamp(scene.clock(step)))
    return Question(text, NOT_SHOWN, "not_shown", None, ((name, None),), step if templates is WHERE else None)


def not_shown(rng: Random, scene: Scene) -> Question | None:
    """Asks about something that the video does not show."""
    kind = rng.randrange(5)
    if kind == 0 and scene.digit is None:
        return Question(_ask(rng, DIGIT), NOT_SHOWN, "not_shown", None)
    if kind in (1, 2):
        key, values = ("shape", SHAPES) if kind == 1 else ("colour", COLOUR_NAMES)
        present = {getattr(thing, key) for thing in scene.objects}
        value = rng.choice([value for value in values if value not in present])
        text = _ask(rng, COLOUR, shape=value) if kind == 1 else _ask(rng, SHAPE, colour=value)
        return Question(text, NOT_SHOWN, "not_shown", None, ((value, None),))
    return _absent_name(rng, scene)


FAMILIES = {
    maker.__name__: maker
    for maker in (
        digit,
        count,
        shape,
        colour,
        where,
        moving,
        direction,
        first_last,
        before,
        when,
        choice,
        condition,
        caption,
        not_shown,
    )
}


def draw(rng: Random, scene: Scene, family: str, tries: int = 4) -> Question | None:
    """Draws a question of a family, or None when the scene has none after a few tries."""
    for _ in range(tries):
        question = FAMILIES[family](rng, scene)
        if question is not None:
            return question
    return None
