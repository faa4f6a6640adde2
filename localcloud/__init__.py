"""AWS emulated on one machine. The demo, the whole-path tests and developers run the real stack on it."""
