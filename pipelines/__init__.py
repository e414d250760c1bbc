"""Apache Beam pipelines: vocabulary features, image and video shards, verification."""
