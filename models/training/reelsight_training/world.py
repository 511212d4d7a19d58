"""Describes short scenes: who is where in each second. Pure and seeded, no pixels.

Time runs in whole steps (one second at the default sampling). An object appears at the
start of a step, leaves at the start of a step, and moves by gliding into the next cell so
that it arrives at the start of a step: a frame sampled anywhere inside a second therefore
shows the state of that second. At most one thing stands in each of the 3 x 3 cells.
"""

from dataclasses import dataclass, field
from random import Random

from reelsight_training.lexicon import COLOUR_NAMES, DIRECTIONS, SHAPES

CELLS = 9
OFFSETS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}

# Codes of what one cell shows: nothing, a coloured shape, or a digit.
EMPTY = 0
FIRST_DIGIT = 1 + len(SHAPES) * len(COLOUR_NAMES)
CODES = FIRST_DIGIT + 10


@dataclass(frozen=True)
class Thing:
    """One object or digit with its cell in each step (None while it is not visible)."""

    shape: str
    colour: str
    digit: int | None
    cells: tuple[int | None, ...]
    direction: str | None = None

    @property
    def first(self) -> int:
        """Returns the first step in which it is visible."""
        return next(step for step, cell in enumerate(self.cells) if cell is not None)

    @property
    def end(self) -> int:
        """Returns the step after the last one in which it is visible."""
        return max(step for step, cell in enumerate(self.cells) if cell is not None) + 1

    @property
    def hops(self) -> list[int]:
        """Returns the steps at whose start it arrives in another cell."""
        return [step for step in range(self.first + 1, self.end) if self.cells[step] != self.cells[step - 1]]

    @property
    def name(self) -> str:
        """Returns how questions and answers call it."""
        return f"digit {self.digit}" if self.digit is not None else f"{self.colour} {self.shape}"

    @property
    def code(self) -> int:
        """Returns the code of a cell that shows it."""
        if self.digit is not None:
            return FIRST_DIGIT + self.digit
        return 1 + SHAPES.index(self.shape) * len(COLOUR_NAMES) + COLOUR_NAMES.index(self.colour)


@dataclass(frozen=True)
class Scene:
    """A scene of `steps` seconds; `start` and `stride` are the clock of its first frame."""

    steps: int
    things: tuple[Thing, ...]
    start: int = 0
    stride: int = 1
    seed: int = field(default=0, compare=False)

    @property
    def objects(self) -> list[Thing]:
        """Returns the coloured shapes, in order of first appearance, then reading order."""
        return sorted((t for t in self.things if t.digit is None), key=appearance)

    @property
    def digit(self) -> Thing | None:
        """Returns the digit, if one is shown."""
        return next((thing for thing in self.things if thing.digit is not None), None)

    def clock(self, step: int) -> int:
        """Returns the stamp of a step in seconds."""
        return self.start + step * self.stride

    def codes(self, step: int) -> list[int]:
        """Returns what each of the nine cells shows in a step."""
        row = [EMPTY] * CELLS
        for thing in self.things:
            if thing.cells[step] is not None:
                row[thing.cells[step]] = thing.code
        return row


def appearance(thing: Thing) -> tuple[int, int]:
    """Orders things by when, then where, they first appear."""
    return thing.first, thing.cells[thing.first]


def neighbour(cell: int, direction: str) -> int | None:
    """Returns the cell next to one, or None at the edge of the frame."""
    row, column = cell // 3 + OFFSETS[direction][0], cell % 3 + OFFSETS[direction][1]
    return row * 3 + column if 0 <= row < 3 and 0 <= column < 3 else None


def _interval(rng: Random, steps: int) -> tuple[int, int]:
    """Draws when a thing is visible: often from the start, often to the end."""
    first = 0 if steps == 1 or rng.random() < 0.45 else rng.randrange(1, steps)
    end = steps if rng.random() < 0.65 else rng.randrange(first + 1, steps + 1)
    return first, end


def _path(rng: Random, steps: int, first: int, end: int, moves: bool, taken: list[set]):
    """Draws the cells of one thing, free of collisions; returns (cells, direction) or None."""
    free = [cell for cell in range(CELLS) if cell not in taken[first]]
    if not free:
        return None
    cell, direction = rng.choice(free), None
    hops: set[int] = set()
    if moves and end - first >= 2:
        options = [way for way in DIRECTIONS if neighbour(cell, way) is not None]
        direction = rng.choice(options)
        hops = set(rng.sample(range(first + 1, end), min(end - first - 1, rng.choice((1, 2, 2)))))
    cells: list[int | None] = [None] * steps
    moved = False
    for step in range(first, end):
        target = neighbour(cell, direction) if step in hops else None
        if target is not None:
            cell, moved = target, True
        if cell in taken[step]:
            return None
        cells[step] = cell
    return cells, direction if moved else None


def make_scene(rng: Random, steps: int, objects: int, digit: bool, motion: float, seed: int = 0) -> Scene:
    """Draws a scene with up to `objects` distinct coloured shapes and perhaps a digit.

    `motion` is the chance of each object to move; a digit stands still.
    """
    taken: list[set] = [set() for _ in range(steps)]
    things: list[Thing] = []
    kinds = [(shape, colour) for shape in SHAPES for colour in COLOUR_NAMES]
    wanted = [(shape, colour, None) for shape, colour in rng.sample(kinds, objects)]
    if digit:
        wanted.append(("", "", rng.randrange(10)))
    for shape, colour, value in wanted:
        for _ in range(6):
            first, end = _interval(rng, steps)
            moves = value is None and rng.random() < motion
            path = _path(rng, steps, first, end, moves, taken)
            if path is None:
                continue
            for step, cell in enumerate(path[0]):
                if cell is not None:
                    taken[step].add(cell)
            things.append(Thing(shape, colour, value, tuple(path[0]), path[1]))
            break
    return Scene(steps, tuple(things), seed=seed)


def draw_scene(rng: Random, steps: int, seed: int = 0) -> Scene:
    """Draws a scene of the usual mixture: about half of them without any motion."""
    objects = rng.choices((0, 1, 2, 3, 4), (1, 4, 8, 8, 5))[0]
    digit = objects == 0 or rng.random() < 0.3
    motion = 0.0 if rng.random() < 0.3 else rng.choice((0.5, 0.8))
    return make_scene(rng, steps, objects, digit, motion, seed)
