"""What to remember and to show after a plan was carried out."""
