"""Learning from corrections: what is learned, how it is told whether that helped, and the version it becomes."""
