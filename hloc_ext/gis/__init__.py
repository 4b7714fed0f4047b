"""Georeferenced rasters and vector layers, registration of one to the other, and corrected exports.

Needs the extra ``gis`` (``pip install hloc_ext[gis]``). Frames and conventions of everything in here:

* *Claimed* is where a file says that something is, *corrected* where it fits the image.
* Metres are eastings and northings of a *working CRS*, the UTM zone of the image's centre
  (:func:`hloc_ext.gis.crs.working_crs`). Nothing is measured in degrees.
* Pixels are (column, row). Georeferencing counts as GDAL does: the upper left corner of the first pixel is
  (0, 0). Matching counts as HLOC does: the centre of that pixel is (0, 0).
  :class:`hloc_ext.gis.grid.Grid` knows both.
* Classes are 0 other, 1 road, 2 sidewalk, 3 building, 4 vegetation, 5 water (:mod:`hloc_ext.city.labels`).
"""
