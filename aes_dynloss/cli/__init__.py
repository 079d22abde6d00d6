"""The command line: one file a command; each parses first and imports torch afterwards."""
