"""Writing a split: tars, sidecars, the split's folder, the Beam transform and the command around it."""
