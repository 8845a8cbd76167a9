"""The live page at `/`: one report and its past as HTML, without anything from outside."""
