"""Random access over robot episodes and image-text shards, without TensorFlow."""
