"""The demo: a walkthrough or a recorded market, played on the local cloud, with a report."""
