"""Attention U-Net: sigmoid gates on the skips, 2-D and 3-D."""
