"""The checkout's own commands, called by the Makefile; nothing of it is installed."""
