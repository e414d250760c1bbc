"""Which input goes into which shard, at which place: decided before any is read."""
