"""The .sqz format: encoder, decoder, and the conversion from and to Keras."""
