"""The paper's tables and figures, rerun."""
