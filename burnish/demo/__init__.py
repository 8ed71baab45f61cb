"""The demo: the main job on real images, told step by step."""
