"""One file per Lambda: parse, call, return."""
