"""Correcting a mask: tools that propose labels, and where to look next."""
