"""The demo: a story or a recorded market, played on the local cloud and reported."""
