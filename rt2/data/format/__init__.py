"""The files of a TFDS data set: what they declare, how records are laid out, what is damaged."""
