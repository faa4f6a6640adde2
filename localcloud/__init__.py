"""AWS emulated on one machine, without an account. The demo, the whole-path tests and developers run the real stack on it."""
