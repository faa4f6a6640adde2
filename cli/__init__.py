"""The ``spotpools`` command. It parses and prints; the rules come from the model of the control plane."""
