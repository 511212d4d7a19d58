"""The prompt text around a video, as transformers' SmolVLM processor writes it.

Mirrors transformers 5.23 `SmolVLMProcessor.replace_video_token` with the default chat
template; a test compares both on a real video.
"""

from datetime import timedelta

from reelsight_training.lexicon import NUMBER_WORDS, stamp
from reelsight_training.tokenizer import EOS, FAKE, GLOBAL, IMAGE

INTRO = "<|im_start|>User: You are provided the following series of {count} frames from a {length} [H:MM:SS] video.\n"
OUTRO = "\n\n"
ASK = f"{EOS}\nAssistant:"
NEXT_TURN = "\nUser: "
TENS = {20: "twenty", 30: "thirty", 40: "forty", 50: "fifty", 60: "sixty"}


def number_word(value: int) -> str:
    """Spells a number below 70 as num2words does."""
    if value <= 20:
        return NUMBER_WORDS[value]
    tens, ones = value // 10 * 10, value % 10
    return TENS[tens] + (f"-{NUMBER_WORDS[ones]}" if ones else "")


def video_text(stamps: list[int], duration: int, image_seq_len: int) -> str:
    """Returns everything before the first question, image tokens expanded."""
    image = f"{FAKE}{GLOBAL}{IMAGE * image_seq_len}{FAKE}"
    frames = "".join(f"\nFrame from {stamp(second)}:{image}" for second in stamps)
    intro = INTRO.format(count=number_word(len(stamps)), length=timedelta(seconds=duration))
    return intro + frames + OUTRO
