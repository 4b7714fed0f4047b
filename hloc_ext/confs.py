"""Every extractor and matcher configuration, in HLOC's dictionary form.

`extractors` and `matchers` hold ``output`` (stem of the file that is written), ``model`` (``name`` is a
module of :mod:`hloc_ext.extractors` or :mod:`hloc_ext.matchers`, the rest its options) and
``preprocessing``; `dense_matchers` add ``max_error`` and ``cell_size`` (pixels, see
:mod:`hloc_ext.match_dense`). The same dictionaries are registered in every HLOC host.
"""

from __future__ import annotations

from typing import Any

Confs = dict[str, dict[str, Any]]

#: Global descriptor that the pipelines retrieve with, unless `--retrieval` says otherwise.
DEFAULT_RETRIEVAL = "vlad-rootsift"
#: Matcher of the pipelines; with `--features` alone it is that of sparse features.
DEFAULT_MATCHER, SPARSE_MATCHER, SPARSE_FEATURES = "kd-mamba", "NN-ratio", "sift"

extractors: Confs = {
    # RootSIFT of COLMAP; coordinates are not shifted by half a pixel as in HLOC's `sift`.
    "sift": {
        "output": "feats-sift",
        "model": {"name": "sift"},
        "preprocessing": {"grayscale": True, "resize_max": 1600},
    },
    # COLMAP's own defaults: keypoints from the doubled image too, which small images need.
    "sift-colmap": {
        "output": "feats-sift-colmap",
        "model": {"name": "sift", "options": {"first_octave": -1, "peak_threshold": 0.02 / 3}},
        "preprocessing": {"grayscale": True, "resize_max": 1600},
    },
    # SIFT descriptors with L2 instead of L1-root normalisation.
    "sift-l2": {
        "output": "feats-sift-l2",
        "model": {"name": "sift", "descriptor": "sift"},
        "preprocessing": {"grayscale": True, "resize_max": 1600},
    },
    "disk": {
        "output": "feats-disk",
        "model": {"name": "disk", "max_keypoints": 5000},
        "preprocessing": {"grayscale": False, "resize_max": 1600},
    },
    "aliked-n16": {
        "output": "feats-aliked-n16",
        "model": {"name": "aliked", "model_name": "aliked-n16", "max_keypoints": 4096},
        "preprocessing": {"grayscale": False, "resize_max": 1024},
    },
    "xfeat": {
        "output": "feats-xfeat",
        "model": {"name": "xfeat", "max_keypoints": 4096},
        "preprocessing": {"grayscale": False, "resize_max": 1600},
    },
    # Global descriptors without learned networks: VLAD of RootSIFT, with a small vocabulary that ships
    # or one trained on the first images that are extracted into a file (the map).
    "vlad-rootsift": {
        "output": "global-feats-vlad-rootsift",
        "model": {"name": "vlad"},
        "preprocessing": {"grayscale": True, "resize_max": 640},
    },
    "vlad-rootsift-fit": {
        "output": "global-feats-vlad-rootsift-fit",
        "model": {"name": "vlad", "vocabulary": "fit"},
        "preprocessing": {"grayscale": True, "resize_max": 640},
    },
    # Learned global descriptors of 512 numbers. The network sees a square, which it makes itself.
    "crossvit-student": {
        "output": "global-feats-crossvit-student",
        "model": {"name": "crossvit"},
        "preprocessing": {"grayscale": False, "resize_max": 640},
    },
    # The same, whitened by the principal components of the first images that are extracted into a file (the
    # map).
    "crossvit-student-pca": {
        "output": "global-feats-crossvit-student-pca",
        "model": {"name": "crossvit", "whitening": "fit"},
        "preprocessing": {"grayscale": False, "resize_max": 640},
    },
    # For images whose poses are known: the option `model_dir` names their COLMAP model.
    "crossvit-teacher": {
        "output": "global-feats-crossvit-teacher",
        "model": {"name": "crossvit_teacher"},
        "preprocessing": {"grayscale": False, "resize_max": 640},
    },
    # Street panoramas, and the satellite tiles that they were taken on, in one space. The networks resize.
    "distill4geo-ground": {
        "output": "global-feats-distill4geo-ground",
        "model": {"name": "distill4geo", "view": "ground"},
        "preprocessing": {"grayscale": False, "resize_max": 2048},
    },
    "distill4geo-aerial": {
        "output": "global-feats-distill4geo-aerial",
        "model": {"name": "distill4geo", "view": "aerial"},
        "preprocessing": {"grayscale": False, "resize_max": 2048},
    },
    "ssa-ground": {
        "output": "global-feats-ssa-ground",
        "model": {"name": "ssa", "view": "ground"},
        "preprocessing": {"grayscale": False, "resize_max": 2048},
    },
    "ssa-aerial": {
        "output": "global-feats-ssa-aerial",
        "model": {"name": "ssa", "view": "aerial"},
        "preprocessing": {"grayscale": False, "resize_max": 2048},
    },
}

matchers: Confs = {
    "NN-ratio": {
        "output": "matches-NN-mutual-ratio.8",
        "model": {"name": "nearest_neighbor", "do_mutual_check": True, "ratio_threshold": 0.8},
    },
    "NN-mutual": {
        "output": "matches-NN-mutual",
        "model": {"name": "nearest_neighbor", "do_mutual_check": True},
    },
    "disk+lightglue": {
        "output": "matches-disk-lightglue",
        "model": {"name": "lightglue", "features": "disk"},
    },
    "aliked+lightglue": {
        "output": "matches-aliked-lightglue",
        "model": {"name": "lightglue", "features": "aliked"},
    },
}

dense_matchers: Confs = {
    # Best quality but many keypoints: for small scenes.
    "loftr": {
        "output": "matches-loftr",
        "model": {"name": "loftr", "weights": "outdoor"},
        "preprocessing": {"grayscale": True, "resize_max": 1024, "dfactor": 8},
        "max_error": 1,
        "cell_size": 1,
    },
    # Limits the number of keypoints: for larger scenes.
    "loftr_aachen": {
        "output": "matches-loftr_aachen",
        "model": {"name": "loftr", "weights": "outdoor"},
        "preprocessing": {"grayscale": True, "resize_max": 1024, "dfactor": 8},
        "max_error": 2,
        "cell_size": 8,
    },
    # Snaps to keypoints that exist already (`features_ref`).
    "loftr_superpoint": {
        "output": "matches-loftr_superpoint",
        "model": {"name": "loftr", "weights": "outdoor"},
        "preprocessing": {"grayscale": True, "resize_max": 1024, "dfactor": 8},
        "max_error": 4,
        "cell_size": 4,
    },
    # Our own, with weights that ship. It takes images of any size, so that none is resampled to a multiple of
    # 8 pixels. HLOC's stage needs the keypoints of image 1 on a grid (see `moves`).
    "kd-mamba": {
        "output": "matches-kd-mamba",
        "model": {"name": "kd_mamba", "weights": "kd_mamba_small", "moves": "image0"},
        "preprocessing": {"grayscale": True, "resize_max": 1024, "dfactor": 1},
        "max_error": 1,
        "cell_size": 1,
    },
    # Smaller and faster.
    "kd-mamba-nano": {
        "output": "matches-kd-mamba-nano",
        "model": {"name": "kd_mamba", "weights": "kd_mamba_nano", "moves": "image0"},
        "preprocessing": {"grayscale": True, "resize_max": 1024, "dfactor": 1},
        "max_error": 1,
        "cell_size": 1,
    },
    # Aerial images and maps of any heading, at half to double the scale of each other.
    "kd-mamba-rot": {
        "output": "matches-kd-mamba-rot",
        "model": {
            "name": "kd_mamba",
            "weights": "kd_mamba_aerial",
            "moves": "image0",
            "match_threshold": 0.05,
            "rotations": 8,
            "scales": (0.6, 1.0, 1.6),
            "choice_size": 224,
            "tries": 3,
        },
        "preprocessing": {"grayscale": True, "resize_max": 1024, "dfactor": 1},
        "max_error": 1,
        "cell_size": 1,
    },
    # Snaps to keypoints that exist already (`features_ref`), of any extractor: as `loftr_superpoint`.
    "kd-mamba-snap": {
        "output": "matches-kd-mamba-snap",
        "model": {"name": "kd_mamba", "weights": "kd_mamba_small", "moves": "image0"},
        "preprocessing": {"grayscale": True, "resize_max": 1024, "dfactor": 1},
        "max_error": 4,
        "cell_size": 4,
    },
}
