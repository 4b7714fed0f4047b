from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hloc_ext.datasets.places import PHOTOS
from hloc_ext.errors import CorruptFileError, InputError
from hloc_ext.training.place_batches import AnchorOrder, draw_batches, mine_negatives
from tests.training.small_scene import row_of_images

# Two scenes of 12 and 9 images, of which two are no anchors, and 7 photos.
SCENES = [(0, i) for i in range(12)] + [(1, i) for i in range(9)]
ANCHORS = np.array([a for a in SCENES if a not in ((0, 5), (1, 0))] + [(PHOTOS, i) for i in range(7)])


def mined(step: int = 0, seed: int = 3) -> dict[int, np.ndarray]:
    """Negatives where images look like those six (or five) further on."""
    embeddings = [
        np.stack(
            [np.cos(2 * np.pi * np.arange(count) / period), np.sin(2 * np.pi * np.arange(count) / period)], 1
        )
        for count, period in ((12, 6), (9, 5))
    ]
    return mine_negatives(embeddings, [row_of_images(12), row_of_images(9)], ANCHORS, 2, seed, step)


def test_negatives_are_of_the_same_scene_and_show_another_place():
    found = mined()
    assert set(found) == {row for row, (scene, _) in enumerate(ANCHORS.tolist()) if scene != PHOTOS}
    for row, negatives in found.items():
        scene, index = ANCHORS[row]
        assert all(ANCHORS[other][0] == scene for other in negatives)
        assert all(abs(ANCHORS[other][1] - index) > 3 for other in negatives)  # neither positive nor grey
    assert any(len(negatives) == 2 for negatives in found.values())
    # The middle of the small scene has a neighbour or a grey one in every image but the last ones.
    middle = ANCHORS.tolist().index([1, 4])
    assert {ANCHORS[other][1] for other in found[middle]} <= {8}


def test_negatives_are_drawn_among_the_nearest_and_anew_at_each_step():
    assert all((mined()[row] == mined()[row]).all() for row in mined())
    draws = [mined(step)[0].tolist() for step in range(30)]
    assert len({tuple(draw) for draw in draws}) > 5
    # Image 6 looks exactly like image 0; of 8 anchors that may be drawn it is the first whenever it is one.
    six = ANCHORS.tolist().index([0, 6])
    assert all(draw[0] == six for draw in draws if six in draw) and any(six in draw for draw in draws)


def test_batches_hold_each_anchor_with_its_negatives():
    negatives = {row: np.array([(row + 7) % 18, (row + 9) % 18]) for row in range(19)}
    batches = draw_batches(ANCHORS, range(40), 7, photo_share=0.0, seed=1, negatives=negatives)
    assert batches.shape == (40, 7)
    for batch in batches.tolist():
        for start in (0, 3):
            assert batch[start + 1 : start + 3] == negatives[batch[start]].tolist()
    assert len({batch[0] for batch in batches.tolist()}) > 12


def test_share_of_photos():
    photos = draw_batches(ANCHORS, range(300), 8, photo_share=0.25, seed=1) >= 19
    assert photos.mean() == pytest.approx(0.25, abs=0.03)
    only = ANCHORS[19:]
    assert (draw_batches(only, range(5), 4, 0.0, 1) < 7).all()
    assert len(set(draw_batches(only, range(1), 7, 0.0, 1)[0].tolist())) == 7  # none twice
    assert (draw_batches(ANCHORS[:19], range(5), 4, 1.0, 1) < 19).all()
    with pytest.raises(InputError, match="no picture to train on"):
        draw_batches(ANCHORS[:0], range(5), 4, 1.0, 1)


def test_a_batch_depends_on_its_number_only():
    whole = draw_batches(ANCHORS, range(20), 6, 0.4, seed=2)
    assert (whole[12:15] == draw_batches(ANCHORS, range(12, 15), 6, 0.4, seed=2)).all()
    assert (whole != draw_batches(ANCHORS, range(20), 6, 0.4, seed=3)).any()


def test_the_order_is_kept_in_a_file(tmp_path):
    path = tmp_path / "anchors.npy"
    order = AnchorOrder(path, 6)
    assert len(order) == 0 and order.batches.shape == (0, 6)
    drawn = draw_batches(ANCHORS, range(20), 6, 0.4, seed=2)
    order.extend(drawn[:5])
    order.extend(drawn[5:])
    again = AnchorOrder(path, 6)
    assert (again.batches == drawn).all() and again.batches.dtype == np.int64 and len(again) == 20


@pytest.mark.parametrize("content", [b"", b"text", "truncated", "shape"])
def test_a_wrong_file_of_anchors_is_named(tmp_path: Path, content: bytes | str):
    path = tmp_path / "anchors.npy"
    AnchorOrder(path, 6).extend(np.zeros((3, 6), np.int64))
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "truncated":
        path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CorruptFileError, match=r"anchors\.npy .*Remove it"):
        AnchorOrder(path, 7 if content == "shape" else 6)
