"""What every room uses: errors, files, locks, the console, command lines, start-up."""
