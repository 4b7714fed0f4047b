"""Train a vocabulary of the VLAD extractor on folders of images."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from .. import logger
from ..confs import extractors
from ..extract_features import prepare_image
from ..extractors.vlad import FIT, VLAD
from ..formats.images import list_images


def main(images: Sequence[Path], output: Path, num_words: int = 64, seed: int = 0) -> None:
    """Cluster RootSIFT descriptors of images and write the centres.

    Args:
        images: folders, searched with their sub-folders.
        output: safetensors file to write.
        num_words: number of visual words.
        seed: of the sample of descriptors and of k-means.

    Raises:
        MissingInputError: a folder does not exist or holds no image.
        CorruptFileError: an image cannot be read.
    """
    paths = [Path(folder) / name for folder in images for name in list_images(Path(folder))]
    preprocessing = extractors["vlad-rootsift"]["preprocessing"]

    def tensors() -> Iterator[torch.Tensor]:
        for path in tqdm(paths):
            yield prepare_image(path, preprocessing).tensor

    model = VLAD({"vocabulary": FIT, "num_words": num_words, "seed": seed})
    model.fit(tensors())
    model.save(Path(output))
    logger.info("Wrote %d words from %d images to %s.", len(model.words), len(paths), output)


def build_parser() -> argparse.ArgumentParser:
    """Command-line options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path, nargs="+", help="folders of images")
    parser.add_argument("--output", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--num_words", type=int, default=64, help="number of visual words")
    parser.add_argument("--seed", type=int, default=0, help="of the sample and of k-means")
    return parser


def cli(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    main(**vars(build_parser().parse_args(argv)))


if __name__ == "__main__":
    cli()
