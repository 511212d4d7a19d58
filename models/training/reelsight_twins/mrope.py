"""Positions on three axes as transformers.js and transformers before 5 give them: text goes on after the largest."""

import itertools

import numpy as np


def max_all(kinds: list[int], grids: dict, vision) -> np.ndarray:
    """Returns positions [3, tokens]; `kinds` are 0 for text, 1 for images, 2 for videos."""
    parts, start = [], 0
    images, videos = (iter(grids.get(f"{name}_grid_thw", [])) for name in ("image", "video"))
    seconds = iter(grids.get("second_per_grid_ts", []))
    for kind, group in itertools.groupby(kinds):
        count = len(list(group))
        if kind == 0:
            part = np.broadcast_to(np.arange(count), (3, count))
        else:
            times, rows, columns = (int(size) for size in next(images if kind == 1 else videos))
            rows, columns = rows // vision.spatial_merge_size, columns // vision.spatial_merge_size
            step = np.float32(1)
            if kind == 2 and "second_per_grid_ts" in grids:
                step = np.float32(vision.tokens_per_second) * np.float32(next(seconds))
            time = (np.arange(times, dtype=np.float32) * step).astype(np.int64)
            part = np.stack(np.meshgrid(time, np.arange(rows), np.arange(columns), indexing="ij")).reshape(3, -1)
        parts.append(part + start)
        start = int(parts[-1].max()) + 1
    return np.concatenate(parts, axis=1).astype(np.int64)
