"""What 'nasflow doctor' looks at."""
