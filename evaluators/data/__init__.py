"""Text, rows and token windows that quality is scored on."""
