"""Export for serving: SavedModels and TFLite files."""
