"""Transformer bodies, checkpoints and tokenizers."""
