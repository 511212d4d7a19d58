"""Builds the byte-level BPE tokenizer.

Digits are split in groups of up to two, so that the MM and the SS of a time stamp are one
token each and reading a clock is one copy. The corpus repeats the words of the world until
each is a single token with its leading space; general English fills the rest, so that
a question outside the grammar still costs a reasonable number of tokens.
"""

from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from reelsight_training.lexicon import (
    COLOUR_NAMES,
    COLUMNS,
    DIRECTIONS,
    LETTERS,
    NUMBER_WORDS,
    ROWS,
    SHAPES,
)

BOS = "<|im_start|>"
EOS = "<end_of_utterance>"
PAD = "<|im_end|>"
UNK = "<|endoftext|>"
FAKE = "<fake_token_around_image>"
IMAGE = "<image>"
GLOBAL = "<global-img>"
VIDEO = "<video>"
SPECIAL_TOKENS = (UNK, BOS, PAD, EOS, FAKE, IMAGE, GLOBAL, VIDEO)

# One token for the text before each stamp: it saves three tokens a frame.
FRAME_PREFIX = "\nFrame from "

VOCAB_SIZE = 800

SPLIT = (
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]+|\s*[\r\n]|\s+(?!\S)|\s+"
)

FRAME_WORDS = (
    "You are provided the following series of frames from a video Frame User Assistant H MM SS "
    "and thirty twenty forty fifty sixty"
).split()

QUESTION_WORDS = (
    "a an the is are was there any anything object objects thing things video shown show shows digit "
    "number what What which Which where Where when When how How many color shape direction way "
    "move moves moving Does does do Do Is Are Can first last before after appear appears appeared "
    "visible seen see at in on does it its yes no not more than less fewer one each Choose Answer "
    "Describe List Tell me time does come comes into view earlier later than new only and or "
    "go goes going different total something still motion position located place kind drawn "
    "with letter option options pick correct has have that this you can be find name"
).split()


def corpus() -> list[str]:
    """Returns the training lines: the world's words often, every clock value, then English."""
    words = [*SHAPES, *COLOUR_NAMES, *ROWS, *COLUMNS, *DIRECTIONS, *LETTERS]
    words += [*NUMBER_WORDS, *QUESTION_WORDS, *FRAME_WORDS]
    lines = [f" {word}" for word in dict.fromkeys(words)] * 400
    capitals = [word for word in dict.fromkeys([*QUESTION_WORDS, *FRAME_WORDS]) if word[0].isupper()]
    lines += capitals * 400
    lines += [f"{value:02d}" for value in range(60)] * 400
    english = Path(__file__).with_name("english.txt").read_text(encoding="utf-8")
    return lines + english.splitlines() * 3


def build() -> Tokenizer:
    """Trains the tokenizer; the result depends on this file and the word lists alone."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    added = [AddedToken(FRAME_PREFIX, normalized=False, special=False)]
    specials = [AddedToken(text, normalized=False, special=True) for text in SPECIAL_TOKENS]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(added),
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_tokens(added)
    return tokenizer
