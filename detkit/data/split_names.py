"""The names that tools give to the same split."""

SAME = (("val", "valid", "validation"), ("train", "training"), ("test", "testing"))
