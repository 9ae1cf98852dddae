"""DAE-Former: efficient attention over positions and channels."""
