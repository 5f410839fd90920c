"""What a person sees of a study: progress, tables, report, plots, dashboard."""
