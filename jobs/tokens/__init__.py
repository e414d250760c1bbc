"""Shards to token tables: the plan, decoding and encoding of a shard."""
