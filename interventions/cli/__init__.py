"""What every command line shares: flags, the run that they ask for, errors and Ctrl-C as one line."""
