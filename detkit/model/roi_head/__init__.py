"""RoI heads: proposals to classes and boxes."""
