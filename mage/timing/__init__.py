"""What hardware allows, what a forward costs, and how both are measured."""
