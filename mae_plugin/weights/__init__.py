"""Weights on their way: reading any file safely, the names of other projects, sizes, and what a file says of itself."""
