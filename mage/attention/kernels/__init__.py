"""Triton kernels of attention. Each computes what `mage.attention.torch_operations` specifies."""
