"""The ``spotpools`` command: parses and prints; rules and errors come from the control plane's own model."""
