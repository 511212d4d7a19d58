"""Packs scenes and questions into training batches.

Several questions share one video under a block mask: each sees the video and its own
block, and its positions restart after the video, so every question is posed exactly as
at inference. Some blocks are conversations of several turns; no question repeats in one.
"""

from dataclasses import dataclass, field
from random import Random

import numpy as np

from reelsight_training import prompt
from reelsight_training.lexicon import COLOUR_NAMES, DIRECTIONS, SHAPES, stamp
from reelsight_training.questions import Question, draw
from reelsight_training.tokenizer import EOS, FAKE, IMAGE
from reelsight_training.world import CELLS, EMPTY, FIRST_DIGIT, Scene, Thing

IGNORE = -100
# Sizes of the throw-away heads, keyed by name; the layer that each reads is the trainer's choice.
HEADS = {
    "second": 60,
    "minute": 60,
    "motion": 2 + len(DIRECTIONS),
    "order": 6,
    "count": 6,
    "exists": 2,
    "mention_first": 60,
    "mention_order": 6,
    "mention_motion": 1 + len(DIRECTIONS),
    "mention_shape": len(SHAPES),
    "mention_colour": len(COLOUR_NAMES),
    "place": CELLS,
    "mention_place": CELLS,
    "digit": 11,
    "total": 6,
    "any_motion": 2,
    "extreme_shape": len(SHAPES),
    "extreme_colour": len(COLOUR_NAMES),
}

# Which tokens a designated attention head should look at: name -> (layer, head).
RELATIONS = {
    "second": (0, 0),
    "minute": (0, 1),
    "previous": (1, 0),
    "referent": (2, 0),
    "order": (3, 2),
    "arrival": (3, 0),
    "hop": (3, 1),
    "spot": (3, 3),
    "evidence": (4, 0),
    "option": (5, 0),
}


@dataclass
class Sample:
    """One packed video: parallel lists over tokens, and sparse targets for the heads."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    # (family, positions of its supervised tokens)
    answers: list[tuple[str, list[int]]] = field(default_factory=list)
    targets: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: {name: [] for name in HEADS})
    # relation -> (query place, key places); looking at the first token means "nowhere"
    looks: dict[str, list[tuple[int, list[int]]]] = field(default_factory=lambda: {name: [] for name in RELATIONS})
    # Where each thing is in the prompt: id(thing) -> {step: place of its visual token}
    shown: dict[int, dict[int, int]] = field(default_factory=dict)

    def add(self, ids: list[int], block: int, start: int) -> None:
        """Appends tokens without labels."""
        self.ids += ids
        self.positions += range(start, start + len(ids))
        self.blocks += [block] * len(ids)
        self.labels += [IGNORE] * len(ids)
        self.codes += [-1] * len(ids)


class Packer:
    """Turns scenes and questions into samples with one tokenizer."""

    def __init__(self, tokenizer, image_seq_len: int = CELLS):
        self.tokenizer = tokenizer
        self.image_seq_len = image_seq_len
        self.image = tokenizer.token_to_id(IMAGE)
        self.fake = tokenizer.token_to_id(FAKE)
        self.eos = tokenizer.token_to_id(EOS)
        self.ask = self.encode(prompt.ASK)
        self.next_turn = self.encode(prompt.NEXT_TURN)
        self._cache: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        """Encodes text, special tokens included."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def _cached(self, text: str) -> list[int]:
        if text not in self._cache:
            self._cache[text] = self.encode(text)
        return self._cache[text]

    def video(self, sample: Sample, scene: Scene, duration: int) -> None:
        """Adds the video part and the targets of its visual tokens."""
        stamps = [scene.clock(step) for step in range(scene.steps)]
        ids = self.encode(prompt.video_text(stamps, duration, self.image_seq_len))
        sample.add(ids, 0, 0)
        places = [index for index, token in enumerate(ids) if token == self.image]
        order = {id(thing): rank for rank, thing in enumerate(scene.objects)}
        seen: set[int] = set()
        arrivals: list[int] = []
        for step in range(scene.steps):
            frame = places[step * CELLS : (step + 1) * CELLS]
            for cell, code in enumerate(scene.codes(step)):
                sample.codes[frame[cell]] = code * CELLS + cell
            for thing in scene.things:
                cell = thing.cells[step]
                if cell is not None:
                    sample.shown.setdefault(id(thing), {})[step] = frame[cell]
                    self._visual_targets(sample, scene, thing, step, frame[cell], order)
                    # The stamp "MM:SS:" and two markers stand before the first visual token.
                    sample.looks["second"].append((frame[cell], [frame[0] - 4]))
                    sample.looks["minute"].append((frame[cell], [frame[0] - 6]))
                    before = sample.shown[id(thing)].get(step - 1, frame[cell])
                    sample.looks["previous"].append((frame[cell], [before]))
            for thing in scene.objects:
                if thing.first == step:
                    arrivals.append(sample.shown[id(thing)][step])
                    sample.looks["order"].append((arrivals[-1], [0, *arrivals]))
                    seen.add(id(thing))
            sample.targets["count"].append((frame[-1] + 1, len(seen)))

    def _visual_targets(self, sample, scene, thing, step, place, order) -> None:
        clock = scene.clock(step)
        sample.targets["second"].append((place, clock % 60))
        sample.targets["minute"].append((place, clock // 60))
        if step == thing.first:
            motion = 0
        elif thing.cells[step] == thing.cells[step - 1]:
            motion = 1
        else:
            motion = 2 + DIRECTIONS.index(thing.direction)
        sample.targets["motion"].append((place, motion))
        if id(thing) in order:
            sample.targets["order"].append((place, order[id(thing)]))

    def question(self, sample: Sample, scene: Scene, question: Question, block: int, start: int, turn: int) -> int:
        """Adds one question and its answer; returns the position after it."""
        lead = [] if turn == 0 else self.next_turn
        if question.mentions or question.step is not None:
            encoding = self.tokenizer.encode(question.text, add_special_tokens=False)
            body, spans = encoding.ids, encoding.offsets
        else:
            body, spans = self._cached(question.text), []
        answer = [*self._cached(" " + question.answer), self.eos]
        base = len(sample.ids) + len(lead)
        sample.add([*lead, *body, *self.ask, *answer], block, start)
        first = len(sample.ids) - len(answer) - 1
        for index, token in enumerate(answer):
            sample.labels[first + index] = token
        sample.answers.append((question.family, list(range(first, first + len(answer)))))
        places = sample.answers[-1][1]
        for place, keys in zip(places[:-1], self._evidence(sample, scene, question, len(answer) - 1), strict=True):
            sample.looks["evidence"].append((place, keys))
        if question.family == "caption":
            # The word that completes a name must know which object of the order it was.
            for rank, thing in enumerate(scene.objects):
                self._referent_targets(sample, scene, thing.name, thing, first + 2 + 3 * rank)
        if question.family == "choice":
            # The letter is read from the option that names what was found.
            begin = question.text.index(f"{question.answer}) ") + len("A) ")
            end = begin + len(question.text[begin:].split(" ")[0])
            place = base + next(index for index, span in enumerate(spans) if span[1] >= end)
            sample.looks["option"].append((first, [place]))
        self._mention_targets(sample, scene, question, spans, base)
        return start + len(lead) + len(body) + len(self.ask) + len(answer)

    def _evidence(self, sample: Sample, scene: Scene, question: Question, count: int) -> list[list[int]]:
        """Returns, for each of `count` answer tokens, the visual tokens that decide it."""
        if question.family == "caption":
            things = [*scene.objects, *([scene.digit] if scene.digit else [])]
            # "red circle, blue square": three tokens a thing, the comma already asks for the next.
            owners = [things[min((index + 1) // 3, len(things) - 1)] for index in range(count)]
            return [[sample.shown[id(thing)][thing.first]] for thing in owners]
        keys = [sample.shown[id(thing)][step] for thing, step in question.points]
        return [sorted(set(keys)) or [0]] * count

    def _mention_targets(self, sample, scene, question, spans, base) -> None:
        for phrase, thing in question.mentions:
            end = question.text.index(phrase) + len(phrase)
            place = base + next(index for index, span in enumerate(spans) if span[1] >= end)
            self._referent_targets(sample, scene, phrase, thing, place)
        if question.step is not None:
            self._spot(sample, question.mentions[0][1], question.step, base + len(spans) - 1)

    def _spot(self, sample: Sample, thing: Thing | None, step: int, place: int) -> None:
        """Adds where a thing is at a step to the token that has read both."""
        cell = None if thing is None else thing.cells[step]
        if cell is None:
            sample.looks["spot"].append((place, [0]))
            return
        sample.looks["spot"].append((place, [sample.shown[id(thing)][step]]))
        sample.targets["place"].append((place, cell))

    def _referent_targets(self, sample, scene, phrase, thing, place) -> None:
        """Adds what a word that names a thing must know about it."""
        sample.targets["exists"].append((place, int(thing is not None)))
        if thing is None:
            for name in ("referent", "arrival", "hop"):
                sample.looks[name].append((place, [0]))
            return
        shown = sample.shown[id(thing)]
        sample.looks["referent"].append((place, list(shown.values())))
        sample.looks["arrival"].append((place, [shown[thing.first]]))
        sample.looks["hop"].append((place, [shown[step] for step in thing.hops] or [0]))
        order = {id(other): rank for rank, other in enumerate(scene.objects)}
        motion = 1 + DIRECTIONS.index(thing.direction) if thing.direction else 0
        sample.targets["mention_first"].append((place, scene.clock(thing.first) % 60))
        sample.targets["mention_order"].append((place, order[id(thing)]))
        sample.targets["mention_motion"].append((place, motion))
        sample.targets["mention_place"].append((place, thing.cells[thing.first]))
        # Only what the text does not say itself teaches the lookup.
        if phrase == thing.colour:
            sample.targets["mention_shape"].append((place, SHAPES.index(thing.shape)))
        if phrase == thing.shape:
            sample.targets["mention_colour"].append((place, COLOUR_NAMES.index(thing.colour)))

    def probes(self, rng: Random, scene: Scene, sample: Sample, block: int, origin: int) -> None:
        """Adds bare words, each alone in a block, that the heads read as questions.

        A word costs one token and carries the same lookup as a whole question that
        contains it, so the lookups are supervised several times as densely.
        """
        objects = scene.objects
        present = {(thing.shape, thing.colour): thing for thing in objects}
        shapes = [thing.shape for thing in objects]
        colours = [thing.colour for thing in objects]
        words: list[tuple[str, Thing | None, str]] = []
        for kind in {*shapes, rng.choice(SHAPES)}:
            if shapes.count(kind) < 2:
                words.append((kind, next((t for t in objects if t.shape == kind), None), "shape"))
        for tint in {*colours, rng.choice(COLOUR_NAMES)}:
            if colours.count(tint) < 2:
                words.append((tint, next((t for t in objects if t.colour == tint), None), "colour"))
        pairs = {*present, (rng.choice(SHAPES), rng.choice(COLOUR_NAMES))}
        if objects:
            pairs.add((rng.choice(shapes), rng.choice(COLOUR_NAMES)))
        words += [(f"{tint} {kind}", present.get((kind, tint)), "name") for kind, tint in pairs]
        rng.shuffle(words)
        for text, thing, _ in words:
            place = self._probe(rng, sample, text, block, origin)
            self._referent_targets(sample, scene, text, thing, place)
            block += 1
        block = self._spot_probes(rng, scene, sample, block, origin)
        self._keyword_probes(rng, scene, sample, block, origin)

    def _spot_probes(self, rng, scene, sample, block, origin) -> int:
        """Adds "thing at time" without a question around it; returns the next block."""
        for thing in rng.sample(scene.objects, min(2, len(scene.objects))):
            step = rng.randrange(thing.first, thing.end)
            ids = self.encode(f" {thing.name} at {stamp(scene.clock(step))}")
            sample.add(ids, block, origin + rng.randrange(1, 5))
            self._spot(sample, thing, step, len(sample.ids) - 1)
            block += 1
        return block

    def _probe(self, rng: Random, sample: Sample, text: str, block: int, origin: int) -> int:
        sample.add(self._cached(f" {text}"), block, origin + rng.randrange(1, 9))
        return len(sample.ids) - 1

    def _keyword_probes(self, rng, scene, sample, block, origin) -> None:
        def probe(text: str, look: str, keys: list[int], **values: int) -> None:
            nonlocal block
            place = self._probe(rng, sample, text, block, origin)
            sample.looks[look].append((place, keys))
            for name, value in values.items():
                sample.targets[name].append((place, value))
            block += 1

        objects, shown = scene.objects, sample.shown
        digits = list(shown[id(scene.digit)].values()) if scene.digit else [0]
        value = scene.digit.digit if scene.digit else 10
        probe(rng.choice(("digit", "number")), "referent", digits, digit=value)
        arrivals = [shown[id(thing)][thing.first] for thing in objects]
        probe("objects", "arrival", [0, *arrivals], total=len(objects))
        hops = [shown[id(thing)][step] for thing in objects for step in thing.hops]
        word = rng.choice(("moving", "move", "motion"))
        probe(word, "hop", hops or [0], any_motion=int(bool(hops)))
        for way in rng.sample(DIRECTIONS, 2):
            hops = [shown[id(thing)][step] for thing in objects if thing.direction == way for step in thing.hops]
            probe(f"{rng.choice(('move', 'moving'))} {way}", "hop", hops or [0], any_motion=int(bool(hops)))
        if len(objects) < 2:
            return
        for word, thing, other in (("first", objects[0], objects[1]), ("last", objects[-1], objects[-2])):
            if thing.first != other.first:
                shape, tint = SHAPES.index(thing.shape), COLOUR_NAMES.index(thing.colour)
                place = shown[id(thing)][thing.first]
                probe(word, "evidence", [place], extreme_shape=shape, extreme_colour=tint)

    def pack(self, rng: Random, scene: Scene, duration: int, questions: list[Question]) -> Sample:
        """Packs a scene with its questions, a quarter of the time as conversations."""
        sample = Sample()
        self.video(sample, scene, duration)
        origin = len(sample.ids)
        turns = rng.choice((2, 3, 5)) if rng.random() < 0.25 else 1
        block, position, turn, texts = 0, origin, turns, set()
        for question in questions:
            if turn >= turns or question.text in texts:
                block, position, turn, texts = block + 1, origin, 0, set()
            position = self.question(sample, scene, question, block, position, turn)
            texts.add(question.text)
            turn += 1
        self.probes(rng, scene, sample, block + 1, origin)
        return sample


def draw_questions(rng: Random, scene: Scene, weights: dict[str, float], count: int) -> list[Question]:
    """Draws questions with families by weight, no two alike in (text, answer)."""
    names, values = list(weights), list(weights.values())
    chosen: dict[str, Question] = {}
    for _ in range(count * 2):
        family = rng.choices(names, values)[0]
        question = draw(rng, scene, family, tries=2)
        if question is not None:
            chosen.setdefault(question.text, question)
        if len(chosen) == count:
            break
    return list(chosen.values())


def collate(samples: list[Sample], pad: int) -> dict:
    """Pads samples to one batch of arrays; heads' targets become flat index/value pairs."""
    width = max(len(sample.ids) for sample in samples)
    count = len(samples)

    def table(name: str, fill: int) -> np.ndarray:
        rows = np.full((count, width), fill, dtype=np.int64)
        for row, sample in zip(rows, samples, strict=True):
            values = getattr(sample, name)
            row[: len(values)] = values
        return rows

    batch = {
        "ids": table("ids", pad),
        "positions": table("positions", 0),
        "blocks": table("blocks", -1),
        "labels": table("labels", IGNORE),
        "codes": table("codes", -1),
    }
    targets = {}
    for name in HEADS:
        pairs = [
            (row * width + place, value)
            for row, sample in enumerate(samples)
            for place, value in sample.targets[name]
        ]
        targets[name] = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    batch["targets"] = targets
    batch["looks"] = {name: _look_table(samples, name, width) for name in RELATIONS}
    batch["answers"] = [
        (family, [row * width + place for place in places])
        for row, sample in enumerate(samples)
        for family, places in sample.answers
    ]
    return batch


def _look_table(samples: list[Sample], name: str, width: int) -> dict[str, np.ndarray]:
    """Returns the queries of a relation as rows and places, with uniform targets [r, width]."""
    looks = [(row, place, keys) for row, sample in enumerate(samples) for place, keys in sample.looks[name]]
    wanted = np.zeros((len(looks), width), np.float32)
    for index, (_, _, keys) in enumerate(looks):
        wanted[index, keys] = 1.0 / len(keys)
    rows = np.asarray([look[0] for look in looks], np.int64)
    places = np.asarray([look[1] for look in looks], np.int64)
    return {"rows": rows, "places": places, "wanted": wanted}


def attention_mask(blocks: np.ndarray) -> np.ndarray:
    """Returns the boolean block mask [b, 1, s, s]: causal, the video and the own block."""
    own = blocks[:, None, :] == blocks[:, :, None]
    video = (blocks == 0)[:, None, :]
    causal = np.tril(np.ones((blocks.shape[1],) * 2, dtype=bool))
    mask = (own | video) & causal[None] & (blocks >= 0)[:, None, :]
    # A padding row sees itself, or its softmax would have nothing to normalise.
    mask |= np.eye(blocks.shape[1], dtype=bool)[None]
    return mask[:, None]


def code_parts(code: int) -> tuple[str, str, int | None]:
    """Splits a cell code into (shape, colour, digit); empty strings where absent."""
    if code == EMPTY:
        return "", "", None
    if code >= FIRST_DIGIT:
        return "", "", code - FIRST_DIGIT
    return SHAPES[(code - 1) // len(COLOUR_NAMES)], COLOUR_NAMES[(code - 1) % len(COLOUR_NAMES)], None
