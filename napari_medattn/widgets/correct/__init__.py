"""Correct: small panels over the mask, its edits and its classes."""
