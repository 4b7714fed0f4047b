"""Registration of images to maps and to images: what the transform between them is, and whether to trust it.

Works on arrays; nothing here knows of files or coordinate systems. A *picture* is an image or a class map
(:mod:`~hloc_ext.gis.registration.gradient_fields`), a *prior* what is known of the transform
(:mod:`~hloc_ext.gis.registration.prior`).

    proposals    gradient_search, local_search: headings, scales and shifts, by gradient fields; matching: all
                 methods in one interface (features: SIFT, ORB, AKAZE; KD-Mamba; phase; ECC; LoFTR)
    refinement   local_matching, estimation, refinement: patches, robust fit, choice of the model
    evidence     how the result differs from chance; refusal
    register     all of these; scene: the same for large rasters, by tiles

Pixels: the centre of the top-left one is (0, 0), x right, y down. Transforms are 3×3, pixel of image 0 (the
image) → pixel of image 1 (the map).
"""
