from __future__ import annotations

import importlib.util

collect_ignore = [] if importlib.util.find_spec("pyspark") else ["spark_streaming.py"]  # importing it needs Spark
