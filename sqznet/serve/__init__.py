"""The web page that classifies photographs in the browser."""
