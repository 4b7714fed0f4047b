"""Registration of imagery to map layers: methods, real data, negatives, cost."""
