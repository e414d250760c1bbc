"""What one input becomes: an image, a video or a clip of it, checked and stored."""
