"""The Learn part of the window."""
