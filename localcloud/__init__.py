"""AWS on one machine, without an account: the demo, whole-path tests and developers run the real stack against it."""
