"""Results as plots: figures, one self-contained HTML page, PNG and SVG."""
