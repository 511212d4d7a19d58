"""The evaluation set is what it says: real H.264, balanced, a tenth without an answer."""

import json
from collections import Counter

import pytest

from reelsight_training.evalset import ANSWERABLE, draw_item, write_set

FIELDS = {"video", "question", "answer", "family", "evidence_start_s", "evidence_end_s"}


def test_families_come_in_turn():
    families = Counter(draw_item(1, index)[1].family for index in range(260))
    assert families["not_shown"] == 26
    counts = [families[name] for name in ANSWERABLE]
    assert max(counts) - min(counts) <= 1


def test_written_videos(tmp_path):
    av = pytest.importorskip("av")
    write_set(11, tmp_path, 3)
    records = [json.loads(line) for line in (tmp_path / "questions.jsonl").read_text().splitlines()]
    assert len(records) == 3 and all(set(record) == FIELDS for record in records)
    with av.open(str(tmp_path / records[0]["video"])) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ("h264", 25)
        kinds = {av.video.frame.PictureType(frame.pict_type).name for frame in container.decode(stream)}
    assert "B" in kinds
