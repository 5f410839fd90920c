"""Studies of plain graphs: the same storage, records, sampling, confirmation and report, another way to measure."""
