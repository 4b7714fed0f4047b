"""The procedural city: speed and memory, exactness of its ground truth, likeness to photographs."""
