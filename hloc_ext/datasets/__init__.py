"""Training pairs for matchers, generated on the fly from compact sources.

A sample is a dictionary of tensors; all samples of one data set have the same height H and width W,
multiples of 8. Pixels: the centre of the top-left one is (0, 0), x right, y down. The N = H/8 · W/8 cells of
stride 8 are in row-major order, cell (r, c) has its centre at pixel (8c, 8r).

    image0, image1   (1, H, W) float32 in [0, 1], grey, with photometric changes
    clean0, clean1   (1, H, W) float32, the same views without them
    points1, valid1  (N, 2) float32 and (N,) bool: where the centres of the cells of image 0 lie in image 1,
                     pixels, and whether that is known, inside of image 1 and not occluded
    points0, valid0  the reverse
"""

#: Names of the tensors of a sample.
SAMPLE_KEYS = ("image0", "image1", "clean0", "clean1", "points1", "valid1", "points0", "valid0")

__all__ = ["SAMPLE_KEYS"]
