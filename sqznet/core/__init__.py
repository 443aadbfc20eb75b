"""Code that all rooms use: errors, files, locks, the console, command lines, start-up."""
