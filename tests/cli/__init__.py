"""The spotpools command: what it says is tested on plain data, what it asks and writes on an AWS of this machine."""
