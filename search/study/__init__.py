"""The study loop: open, baseline, propose, measure, record, stop, finish."""
