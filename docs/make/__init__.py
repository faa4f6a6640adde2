"""Makes the documents that are generated from code."""
