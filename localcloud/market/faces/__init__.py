"""How the market is reached: in process, over HTTP, by events and by its control page."""
