"""What a config can ask for, and how its cells are recorded, resumed, tracked and shown."""
