"""Street panoramas and satellite tiles: data sets, mined batches and samples of cross-view localisation.

Conventions: a panorama is 360 degrees wide, north is at its centre column and azimuth grows clockwise to the
right; tiles are north-up. "Ground" and "aerial" name the two views; a "reference" is a tile of a gallery, a
"query" a panorama or a photo.

:func:`~hloc_ext.datasets.cross_view.layout.open_set` opens a data set,
:class:`~hloc_ext.datasets.cross_view.sampler.NeighbourBatches` decides which pairs are learnt together, and
:class:`~hloc_ext.datasets.cross_view.pairs.CrossViewPairs` reads them.
"""
