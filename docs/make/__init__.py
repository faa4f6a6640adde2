"""Makes the documents that come from code."""
