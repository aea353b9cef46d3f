"""Prompts, examples and scores. No torch and no model: text goes in, a score comes out."""
