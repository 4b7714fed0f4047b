"""Cross-view networks side by side: retrieval, cost, limited fields of view, poses, bird's-eye views."""
