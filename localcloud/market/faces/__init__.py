"""The ways to reach the market: in the same process, over HTTP, by events and by the control interface."""
