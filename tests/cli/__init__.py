"""Tests of the spotpools command: its output on plain data, its calls and writes on an emulated AWS."""
