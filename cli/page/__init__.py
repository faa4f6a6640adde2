"""The page of ``spotpools page``: every pool in a browser, live on this machine or once in a file."""
