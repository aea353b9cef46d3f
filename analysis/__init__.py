"""Records to tables, figures, a report and a regression gate. No torch, no Hydra."""
