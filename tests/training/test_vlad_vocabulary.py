from __future__ import annotations

import cv2
import numpy as np
import pytest
import safetensors.torch

from hloc_ext.errors import MissingInputError
from hloc_ext.extractors.vlad import VLAD
from hloc_ext.training import vlad_vocabulary


def test_trains_from_folders(tmp_path):
    for i in range(3):
        image = np.random.default_rng(i).integers(0, 256, (20, 30), np.uint8)
        (tmp_path / f"{i % 2}").mkdir(exist_ok=True)
        cv2.imwrite(
            f"{tmp_path}/{i % 2}/{i}.png", cv2.resize(image, (240, 160), interpolation=cv2.INTER_CUBIC)
        )
    output = tmp_path / "words.safetensors"
    vlad_vocabulary.cli([f"{tmp_path}/0", f"{tmp_path}/1", "--output", str(output), "--num_words", "4"])
    words = safetensors.torch.load_file(output)["words"]
    assert words.shape == (4, 128)
    # Centres of unit vectors with positive entries.
    assert (words >= 0).all() and (words.float().norm(dim=1) < 1).all()
    assert VLAD({"vocabulary": output}).words.shape == (4, 128)


def test_missing_folder(tmp_path):
    with pytest.raises(MissingInputError, match="does not exist"):
        vlad_vocabulary.main([tmp_path / "gone"], tmp_path / "words.safetensors")
