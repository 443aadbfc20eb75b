"""From shards and a recipe to a trained model."""
