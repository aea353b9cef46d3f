"""Where the cells of a sweep are computed."""
