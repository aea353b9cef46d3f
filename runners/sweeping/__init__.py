"""From the cells of a sweep to their records: planned, grouped, computed, counted."""
