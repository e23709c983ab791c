"""Models that mmaction2 lacks."""
