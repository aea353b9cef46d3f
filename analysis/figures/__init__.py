"""Figures of the report, one file a figure. pyplot is not used: figures are drawn without global state."""
