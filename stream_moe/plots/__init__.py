"""Results as plots: figures, one self-contained HTML page, PNG and SVG."""

from __future__ import annotations

from stream_moe.runtime.extras import need

need("plotly", "plots", "plots")
