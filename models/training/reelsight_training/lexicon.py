"""The words of the synthetic world, shared by renderer, questions and tokenizer.

Everything the model can ever say is built from these lists, so the tokenizer can
promise that each of them is one token with its leading space.
"""

SHAPES = ("circle", "square", "triangle", "star", "cross")

# RGB, chosen far apart so that chroma subsampling cannot turn one into another.
COLOURS = {
    "red": (214, 30, 34),
    "green": (28, 158, 52),
    "blue": (32, 66, 222),
    "yellow": (240, 222, 40),
    "orange": (245, 134, 14),
    "purple": (136, 34, 168),
    "white": (248, 248, 248),
}
COLOUR_NAMES = tuple(COLOURS)
DIGITS = tuple(str(digit) for digit in range(10))

ROWS = ("top", "middle", "bottom")
COLUMNS = ("left", "center", "right")
DIRECTIONS = ("left", "right", "up", "down")
LETTERS = ("A", "B", "C")
NOT_SHOWN = "not shown"

NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty"
).split()


def cell_name(cell: int) -> str:
    """Names one of the nine cells of the frame, in reading order."""
    return f"{ROWS[cell // 3]} {COLUMNS[cell % 3]}"


def stamp(second: int) -> str:
    """Formats whole seconds as the MM:SS stamp that the prompt carries."""
    return f"{second // 60:02d}:{second % 60:02d}"
