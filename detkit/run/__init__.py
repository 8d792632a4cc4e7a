"""Run folders: taken, recorded, resumed."""
