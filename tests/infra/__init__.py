"""Tests of the stack: its resources, its permissions and its bundle."""
