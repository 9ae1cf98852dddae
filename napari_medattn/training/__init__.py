"""Training on data folders: examples as a network sees them, patches, losses, the loop and what is kept of a run."""
