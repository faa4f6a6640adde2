"""What the user wrote: a pool item, read and checked."""
