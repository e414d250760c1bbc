"""Reading a split again: what is wrong with a sample, a shard, the whole."""
