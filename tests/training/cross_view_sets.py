"""What the tests of the cross-view recipes share: a small CVUSA of random pictures, networks, a trainer."""

from __future__ import annotations

from pathlib import Path

from hloc_ext.models.cross_view import EncoderConfig
from hloc_ext.training.cross_view_data import CrossViewDataConfig
from hloc_ext.training.trainer import TrainerConfig
from tests.datasets.cross_view.small_sets import write_cvusa

SIZES = {"ground": (32, 128), "aerial": (32, 32)}
TEACHER = EncoderConfig("convnext_atto", 16, ground_size=(32, 128), aerial_size=(32, 32))
STUDENT = EncoderConfig("fastervit_nano", ground_size=(16, 48), aerial_size=(24, 24))


def small_data(root: Path, **options: object) -> CrossViewDataConfig:
    """24 places, of which 18 are for training, far enough apart to hold some of them out."""
    if not root.exists():
        root.mkdir()
        write_cvusa(root, 24, spacing=400.0)
    defaults = {"neighbours": 3, "refresh_epochs": 1, "val_share": 0.2}
    return CrossViewDataConfig(root=str(root), **{**defaults, **options})


def small_trainer(**options: object) -> TrainerConfig:
    """A few steps on one processor."""
    defaults = {
        "steps": 4,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "warmup_steps": 2,
        "ema": 0.5,
        "precision": "32-true",
        "threads": 1,
        "accelerator": "cpu",
        "workers": 0,
        "log_steps": 1,
        "validate_steps": 2,
        "tensorboard": False,
    }
    return TrainerConfig(**{**defaults, **options})
