"""Reading and writing of HLOC, COLMAP and NVM files; no computation, no configuration."""
