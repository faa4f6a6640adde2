"""The steps of a run, by subject. Each takes the run, records its findings and returns what it saw."""
