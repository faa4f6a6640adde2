"""Tests of the EC2 market: one contract suite over both faces, the model, the control interface, events, replay."""
