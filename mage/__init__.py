"""Sparse attention for block-diffusion language models: models, attention, generation, the MAGE method."""
