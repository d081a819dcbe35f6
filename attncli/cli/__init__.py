"""The command line: the group, the options, one file per command."""
