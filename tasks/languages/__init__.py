"""The languages that the generated tasks speak."""
