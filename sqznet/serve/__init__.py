"""Serves the web page that runs an exported bundle in the browser."""
