"""LongBench v1, LongBench-E and LongBench v2: prompts, data and metrics as published."""
