"""Contains the code that all packages use: errors, files, locks, the console, command lines, start-up."""
