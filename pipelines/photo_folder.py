"""The photos of a run: which make the map, which are queries, and what their headers say."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pycolmap
from PIL import ExifTags, Image

from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.formats.atomic import DiskFullError, UnwritableError, explain_os_error, make_dir
from hloc_ext.formats.images import list_images
from hloc_ext.formats.lists import parse_camera, read_image_list
from hloc_ext.formats.matches import check_pair_keys
from hloc_ext.formats.results import result_names

#: What Pillow raises for a file that is no image, is damaged, or is larger than it accepts.
UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    KeyError,
    TypeError,
    struct.error,
    Image.DecompressionBombError,
)


@dataclass
class Photos:
    """The photos of a run, under one root so that each has one name.

    Attributes:
        root: folder of all photos.
        map_names: photos that the map is made of.
        query_names: photos to localize.
        cameras: intrinsics that were given with the queries.
    """

    root: Path
    map_names: list[str]
    query_names: list[str]
    cameras: dict[str, pycolmap.Camera] = field(default_factory=dict)

    @property
    def prepend_camera_name(self) -> bool:
        """Whether results need the folder of a query to tell the queries apart."""
        return len({Path(name).name for name in self.query_names}) < len(self.query_names)

    def check(self, results: Path) -> None:
        """Find what would stop the run late.

        Args:
            results: results file of the queries.

        Raises:
            InputError: fewer than two map photos, names that lists, match or results files cannot hold, an
                image format that COLMAP lacks, or intrinsics of another image size.
        """
        if len(self.map_names) < 2:
            raise InputError(f"A map needs at least two photos, {self.root} leaves {len(self.map_names)}.")
        names = [*self.map_names, *self.query_names]
        check_names(names, self.root)
        check_pair_keys(names)
        check_formats(names, self.root)
        result_names(self.query_names, results, self.prepend_camera_name)
        check_sizes(self.cameras, self.root, "The list of queries")


def find_photos(images: Path, queries: Path | None, query_every: int | None, outputs: Path) -> Photos:
    """Split photos into map and queries.

    Args:
        images: folder of photos.
        queries: folder of query photos (inside `images` or anywhere), a list of names in `images` (with
            or without intrinsics), or None.
        query_every: take every n-th photo of `images` as a query instead.
        outputs: output folder; a query folder outside `images` is joined there by symbolic links.

    Raises:
        MissingInputError: a folder, list or listed photo does not exist.
        InputError: a wrong option, or a list that cannot be read.
    """
    names = list_images(images)
    if query_every is not None:
        if query_every < 2:
            raise InputError(f"`query_every` must be at least 2, got {query_every}.")
        return _split(images, names, names[::query_every])
    if queries is None:
        return _split(images, names, [])
    if queries.is_dir():
        if queries.resolve().is_relative_to(images.resolve()) and queries.resolve() != images.resolve():
            prefix = queries.resolve().relative_to(images.resolve()).as_posix()
            return _split(images, names, [f"{prefix}/{name}" for name in list_images(queries)])
        query_names = list_images(queries)
        root, prefix = link_together(images, queries, outputs / "images")
        return Photos(root, names, [f"{prefix}/{name}" for name in query_names])
    chosen, cameras = read_queries(queries)
    known = set(names)
    missing = [name for name in chosen if name not in known]
    if missing:
        raise MissingInputError(
            f"{queries} lists {len(missing)} photo(s) that are not in {images}, for instance '{missing[0]}'."
        )
    return _split(images, names, chosen, cameras)


def _split(
    root: Path,
    names: Sequence[str],
    queries: Sequence[str],
    cameras: Mapping[str, pycolmap.Camera] | None = None,
) -> Photos:
    chosen = set(queries)
    return Photos(root, [name for name in names if name not in chosen], list(queries), dict(cameras or {}))


def read_queries(path: Path) -> tuple[list[str], dict[str, pycolmap.Camera]]:
    """Names of a query list, and the intrinsics of those lines that have them.

    Raises:
        MissingInputError: no such file.
        InputError: empty list, repeated name, or wrong intrinsics; names file and line.
    """
    if not path.is_file():
        raise MissingInputError(f"`--queries` {path} is neither a folder of photos nor a list of names.")
    names = read_image_list(path)
    cameras = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        fields = line.split()
        if len(fields) > 1 and not fields[0].startswith("#"):
            cameras[fields[0]] = parse_camera(fields[1:], f"{path}, line {number}")
    return names, cameras


def link_together(images: Path, queries: Path, root: Path) -> tuple[Path, str]:
    """Make `root` with links to all entries of `images` and to the folder `queries`.

    Returns:
        `root`, and the name of the link to `queries`.

    Raises:
        InputError: `root` is inside `images`, or the file system has no symbolic links.
        DiskFullError, UnwritableError: `root` cannot be written to.
    """
    if root.resolve().is_relative_to(images.resolve()):
        raise InputError(
            f"The output folder {root.parent} is inside the folder of photos {images}: choose one outside,"
            " or move the queries into the folder of photos."
        )
    make_dir(root)
    prefix = "_".join(queries.resolve().name.split()) or "queries"  # lists cannot hold blanks
    taken = {entry.name for entry in images.iterdir()}
    while prefix in taken:
        prefix += "_queries"
    targets = {entry.name: entry.resolve() for entry in images.iterdir()} | {prefix: queries.resolve()}
    for name, target in targets.items():
        link = root / name
        if link.is_symlink() and link.resolve() == target:
            continue
        try:
            link.unlink(missing_ok=True)
            link.symlink_to(target, target_is_directory=target.is_dir())
        except OSError as error:
            explained = explain_os_error(error, link)
            if isinstance(explained, (DiskFullError, UnwritableError)):
                raise explained from error
            raise InputError(
                f"Cannot link {target} in {root} ({error}): put the queries inside {images}."
            ) from error
    return root, prefix


def check_names(names: Iterable[str], folder: Path) -> None:
    """Refuse names that HLOC's lists, with blanks between fields and `#` before comments, cannot hold.

    Raises:
        InputError: with examples and the remedy.
    """
    bad = [name for name in names if name.split() != [name] or "/#" in f"/{name}"]
    if bad:
        better = "_".join(bad[0].split()).replace("#", "")
        raise InputError(
            f"{len(bad)} photo(s) in {folder} have a blank, or a `#` at the start, in their name or folder,"
            f" which HLOC's lists cannot hold. Rename them, for instance {bad[0]!r} to {better!r}."
        )


def check_formats(names: Iterable[str], root: Path) -> None:
    """Refuse WebP, which COLMAP cannot read, whatever the end of the name.

    Raises:
        InputError: with an example and the remedy.
    """
    bad = [name for name in names if PhotoHeader.read(root / name).format == "WEBP"]
    if bad:
        raise InputError(
            f"{len(bad)} photo(s) in {root} are WebP, which COLMAP cannot read, for instance '{bad[0]}':"
            " convert them to JPEG or PNG."
        )


def check_sizes(cameras: Mapping[str, pycolmap.Camera], root: Path, where: str) -> None:
    """Refuse intrinsics that are for another image size.

    Args:
        cameras: intrinsics by photo.
        root: folder of the photos; those whose header cannot be read are not checked.
        where: the source of the intrinsics, for the error.

    Raises:
        InputError: naming the photo and both sizes.
    """
    for name, camera in cameras.items():
        size = PhotoHeader.read(root / name).size
        if size is not None and size != (camera.width, camera.height):
            raise InputError(
                f"{where} has intrinsics for {camera.width}×{camera.height} pixels of '{name}', which has"
                f" {size[0]}×{size[1]}: scale the intrinsics, or use the photos they were made for."
            )


@dataclass(frozen=True)
class PhotoHeader:
    """What the header of a photo says about its camera; photos with equal headers may share a camera.

    Attributes:
        size: (width, height) in pixels, None if the header cannot be read.
        tags: maker, model and focal lengths from EXIF; the path if the header cannot be read.
        format: ``JPEG``, ``PNG``, …; not compared.
    """

    size: tuple[int, int] | None
    tags: tuple[str, ...]
    format: str | None = field(default=None, compare=False)

    @classmethod
    def read(cls, path: Path) -> PhotoHeader:
        """Read the header of an image file."""
        try:
            with Image.open(path) as image:
                exif = image.getexif()
                details = exif.get_ifd(ExifTags.IFD.Exif)
                tags = [exif.get(ExifTags.Base.Make), exif.get(ExifTags.Base.Model)]
                tags += [details.get(ExifTags.Base.FocalLength)]
                tags += [details.get(ExifTags.Base.FocalLengthIn35mmFilm)]
                return cls(image.size, tuple(str(tag) for tag in tags), image.format)
        except UNREADABLE:
            return cls(None, (str(path),))


def choose_camera_mode(root: Path, names: Sequence[str]) -> str:
    """Which photos share a camera, from their sizes and EXIF tags.

    One camera for all photos if they agree, else one per folder if those of each folder agree, else
    COLMAP's AUTO. A shared camera makes a small reconstruction several times more accurate.
    """
    by_folder: dict[str, set[PhotoHeader]] = {}
    for name in names:
        by_folder.setdefault(Path(name).parent.as_posix(), set()).add(PhotoHeader.read(root / name))
    if len(set.union(*by_folder.values())) == 1:
        return "SINGLE"
    return "PER_FOLDER" if all(len(kinds) == 1 for kinds in by_folder.values()) else "AUTO"
