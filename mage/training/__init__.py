"""Training of block-diffusion language models."""
