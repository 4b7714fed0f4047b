"""A procedural city with exact ground truth: photos, panoramas, ortho tiles and vector layers of one place.

Needs the extra ``city`` (``pip install hloc_ext[city]``). ``python -m hloc_ext.city --help`` writes data sets
in the layouts of Aachen Day-Night, CVUSA, CVACT and VIGOR, and a GIS-alignment set; ``docs/city.md`` shows
pictures.

Frame of everything in here, the *scene frame*: metres, x east, y north, z up; its origin is a point in UTM
(:attr:`hloc_ext.city.plan.CityPlan.origin`), and z = 0 is the surface of the roads. The ground is flat.
"""
