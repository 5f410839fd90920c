"""All that people see of a study: progress, tables, report, plots, dashboard."""
