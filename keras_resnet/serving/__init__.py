"""The engine of export: SavedModels for TensorFlow Serving and TFLite files."""
