"""The window: thin panels over the same core that the command line uses."""
