"""What every run has in common: its task, configuration, folder, metrics and learning curves."""
