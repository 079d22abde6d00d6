"""The teacher core: losses that change while a student trains, in torch alone and for any task."""
