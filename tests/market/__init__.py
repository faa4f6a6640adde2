"""Tests of the EC2 market: a contract suite for both faces, the model, the control interface, events and replays."""
