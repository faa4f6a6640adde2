"""Acceptance on a real account: plays a small story, checks what only AWS can answer, removes everything, reports."""
