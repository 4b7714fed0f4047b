"""From a panorama to a place on a map of tiles: descriptors, index, localization, pose in the tile."""
