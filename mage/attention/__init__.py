"""The seam where sparsity happens: prefix attention, in-block attention, and their merge."""
