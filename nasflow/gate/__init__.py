"""``nasflow verify MODEL.tflite``: whose models, how they are measured, and how a team's CI is told."""
