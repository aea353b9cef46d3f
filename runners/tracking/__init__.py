"""What sweeps and trainings show to Weights & Biases."""
