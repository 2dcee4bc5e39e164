"""Side-by-side measurements of the engine and its peers; see README.md in this folder."""
