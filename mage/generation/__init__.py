"""Prefill, denoising, commit: the block loop and what it leaves behind."""
