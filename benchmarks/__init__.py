"""Generated captures and measured commands; nothing of it is installed."""
