"""Multi-scale self-guided attention: position and channel attention in two steps."""
