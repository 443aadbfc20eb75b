"""The input contract: how a photograph becomes the square of pixels that a network sees."""
