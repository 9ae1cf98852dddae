"""Learning: from folders of labelled scans, and from a person's corrections."""
