"""Medical Transformer and its kin: attention along rows and columns."""
