"""`python -m sqznet.benchmark`: times exported files and measures their memory."""
